package danelaw

import (
	"cmp"
	"fmt"
	"runtime/debug"
	"strconv"
	"time"
)

// Build says what this program was built from. What is not known of it is "unknown".
type Build struct {
	Version  string // of the module that it was built from
	Revision string // of the commit; with "+" behind it if there were changes that are not in it
	Time     string // of the commit, in RFC 3339
}

func (b Build) String() string {
	return fmt.Sprintf("%s, revision %.13s of %s", b.Version, b.Revision, b.Time)
}

// ThisBuild reads the build info of this program.
func ThisBuild() Build {
	info, _ := debug.ReadBuildInfo()
	return buildOf(info)
}

func buildOf(info *debug.BuildInfo) Build {
	const unknown = "unknown"
	if info == nil {
		return Build{unknown, unknown, unknown}
	}
	known := map[string]string{}
	for _, s := range info.Settings {
		known[s.Key] = s.Value
	}
	b := Build{cmp.Or(info.Main.Version, unknown), cmp.Or(fmt.Sprintf("%.12s", known["vcs.revision"]), unknown),
		cmp.Or(known["vcs.time"], unknown)}
	if known["vcs.modified"] == "true" {
		b.Revision += "+"
	}
	return b
}

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
	if t, err := time.Parse(time.RFC3339, ThisBuild().Time); err == nil {
		return t.UTC()
	}
	return time.Date(2024, time.July, 18, 0, 0, 0, 0, time.UTC) // validFrom of key 38696 (T-1)
}
