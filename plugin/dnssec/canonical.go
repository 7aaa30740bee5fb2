package dnssec

// compareNames orders canonical names as RFC 4034 section 6.1 does (V-31): negative if a sorts before b.
func compareNames(a, b string) int { panic("unbuilt") }
