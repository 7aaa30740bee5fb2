package danelaw

import (
	"runtime/debug"
	"strconv"
	"time"
)

// buildDate is set by -ldflags "-X github.com/danelaw-dns/danelaw/plugin/danelaw.buildDate=$SOURCE_DATE_EPOCH": seconds
// since 1970, as reproducible builds have it.
var buildDate string

// BuildDate is when danelaw was built, as well as it is known: no clock that is right shows an earlier time (T-14).
// Without a build date it is the time of the commit, and without that the time from which the embedded anchors were
// published.
func BuildDate() time.Time {
	if seconds, err := strconv.ParseInt(buildDate, 10, 64); err == nil {
		return time.Unix(seconds, 0).UTC()
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if t, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil {
				return t.UTC()
			}
		}
	}
	return time.Date(2024, time.July, 18, 0, 0, 0, 0, time.UTC) // validFrom of key 38696 (T-1)
}
