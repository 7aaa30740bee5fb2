package mail

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// policyOf is the text of a policy in which some lines are others.
func policyOf(change ...string) string {
	return strings.NewReplacer(change...).Replace(
		"version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmax_age: 604800\n")
}

// TestParseSTSPolicy: D-24, each case with its one deviation from a sound policy.
func TestParseSTSPolicy(t *testing.T) {
	sound := STSPolicy{Enforce, []string{"mail.example.com", "*.example.net"}, 7 * 24 * time.Hour}
	changed := func(change func(*STSPolicy)) *STSPolicy {
		p := sound
		change(&p)
		return &p
	}
	for name, c := range map[string]struct {
		text string
		want *STSPolicy // nil: refused
		why  string     // a part of the error
	}{
		"sound":             {policyOf(), &sound, ""},
		"CRLF":              {policyOf("\n", "\r\n"), &sound, ""},
		"no end of line":    {strings.TrimSpace(policyOf()), &sound, ""},
		"no white space":    {policyOf(": ", ":"), &sound, ""},
		"tabs, and at ends": {policyOf(": ", ":\t ", "\n", " \t\n"), &sound, ""},
		"empty lines":       {policyOf("\n", "\n\n"), &sound, ""},
		"upper case host":   {policyOf("mail.", "MAIL."), &sound, ""},
		"extension":         {policyOf("mode", "x-y: z\nmode"), &sound, ""},
		"mode twice":        {policyOf("mx: *", "mode: none\nmx: *"), &sound, ""},
		"max_age twice":     {policyOf() + "max_age: 1\n", &sound, ""},
		"version last":      {policyOf("version: STSv1\n", "") + "version: STSv1", &sound, ""},
		"testing":           {policyOf("enforce", "testing"), changed(func(p *STSPolicy) { p.Mode = Testing }), ""},
		"none without mx": {"version: STSv1\nmode: none\nmax_age: 86400", &STSPolicy{NoSTS, nil, 24 * time.Hour},
			""},
		"max_age 0":      {policyOf("604800", "0"), changed(func(p *STSPolicy) { p.MaxAge = 0 }), ""},
		"max_age a year": {policyOf("604800", "31557600"), changed(func(p *STSPolicy) { p.MaxAge = MaxSTSAge }), ""},
		"max_age longer": {policyOf("604800", "9999999999"), changed(func(p *STSPolicy) { p.MaxAge = MaxSTSAge }), ""},

		"empty":              {"", nil, `version is ""`},
		"version 2":          {policyOf("STSv1", "STSv2"), nil, `version is "STSv2"`},
		"version lower case": {policyOf("STSv1", "stsv1"), nil, "version"},
		"field upper case":   {policyOf("mode", "Mode"), nil, "mode"},
		"byte order mark":    {"\ufeff" + policyOf(), nil, "version"},
		"space before colon": {policyOf("mode:", "mode :"), nil, "mode"},
		"mode unknown":       {policyOf("enforce", "Enforce"), nil, `"Enforce"`},
		"no mode":            {policyOf("mode: enforce\n", ""), nil, "mode"},
		"no mx":              {policyOf("mx: mail.example.com\nmx: *.example.net\n", ""), nil, "no mx"},
		"no max_age":         {policyOf("max_age: 604800\n", ""), nil, "max_age"},
		"max_age negative":   {policyOf("604800", "-1"), nil, "max_age"},
		"max_age signed":     {policyOf("604800", "+1"), nil, "max_age"},
		"max_age 11 digits":  {policyOf("604800", "00000604800"), nil, "max_age"},
		"max_age in days":    {policyOf("604800", "7d"), nil, "max_age"},
		"HTML":               {"<html>\n" + policyOf(), nil, "line 1"},
		"mx empty":           {policyOf("mail.example.com", ""), nil, "line 3"},
		"mx with dot":        {policyOf("example.net", "example.net."), nil, "line 4"},
		"mx an address":      {policyOf("mail.example.com", "[192.0.2.1]"), nil, "line 3"},
		"mx all":             {policyOf("*.example.net", "*"), nil, "line 4"},
		"mx .example.net":    {policyOf("*.example.net", ".example.net"), nil, "line 4"},
		"mx wildcard inside": {policyOf("*.example.net", "a.*.example.net"), nil, "line 4"},
		"mx part of a label": {policyOf("*.example.net", "mx*.example.net"), nil, "line 4"},
		"mx two":             {policyOf("mail.example.com", "a.example b.example"), nil, "line 3"},
		"mx in Unicode":      {policyOf("mail.example.com", "ö.example"), nil, "line 3"},
		"mx too long":        {policyOf("mail.", strings.Repeat("a.", 125)), nil, "line 3"},
		"mx label too long":  {policyOf("mail.", strings.Repeat("a", 64)+"."), nil, "line 3"},
		"control character":  {policyOf("mail.example.com", "mail\x00.example.com"), nil, "line 3"},
		"carriage returns":   {policyOf("\n", "\r"), nil, "version"},
	} {
		p, err := ParseSTSPolicy(c.text)
		switch {
		case c.want != nil && (err != nil || !reflect.DeepEqual(p, c.want)):
			t.Errorf("%s: %+v, %v, want %+v", name, p, err, c.want)
		case c.want == nil && (err == nil || !strings.Contains(err.Error(), c.why)):
			t.Errorf("%s: %+v, error %v, want one with %q", name, p, err, c.why)
		}
	}
}

// TestSTSCovers: D-25.
func TestSTSCovers(t *testing.T) {
	p := &STSPolicy{MX: []string{"mail.example.com", "*.example.net"}}
	for host, want := range map[string]bool{
		"mail.example.com": true, "mail.example.com.": true, "MAIL.Example.COM": true,
		"example.com": false, "a.mail.example.com": false, "mail.example.comm": false, "xmail.example.com": false,
		"a.example.net": true, "A.example.NET.": true, "example.net": false, "a.b.example.net": false,
		".example.net": false, "aexample.net": false, "": false, ".": false, "net": false,
		"x:hostname:y.example.net": false, `a\ b.example.net`: false, "a;b.example.net": false, `a\.example.net`: false,
		"a_b-1.example.net": true,
	} {
		if p.Covers(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
	if one := (&STSPolicy{MX: []string{"*.net"}}); one.Covers("net") || !one.Covers("a.net") {
		t.Error("a wildcard below a top-level domain stands for something else than one label")
	}
}

// FuzzSTSPolicy: whatever is read, it is sound, and says the same when it is written and read again.
func FuzzSTSPolicy(f *testing.F) {
	f.Add(policyOf())
	f.Add(policyOf("\n", "\r\n", "enforce", "none"))
	f.Add("version: STSv1\nmode:testing\nmx:*.a\nmax_age:9999999999\nx:y")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseSTSPolicy(text)
		if err != nil {
			return
		}
		if p.MaxAge < 0 || p.MaxAge > MaxSTSAge || p.Mode != NoSTS && len(p.MX) == 0 {
			t.Errorf("%+v", p)
		}
		for _, pattern := range p.MX {
			one := &STSPolicy{MX: []string{pattern}}
			host, wild := strings.CutPrefix(pattern, "*.")
			if one.Covers(host) == wild || one.Covers("a."+host) != wild || one.Covers("a.b."+host) {
				t.Errorf("%q covers something else than one label", pattern)
			}
		}
		again, err := ParseSTSPolicy(strings.Join(p.Lines(), "\r\n"))
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("%+v is read again as %+v, error %v", p, again, err)
		}
	})
}
