package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/miekg/dns"
	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/plugin/mail"
)

// usageError is an error of the command line.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

// wrong returns a usageError.
func wrong(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// misused returns a usageError that says where the help is.
func misused(c *cli.Command, format string, args ...any) error {
	return wrong("%s; see %s --help", fmt.Sprintf(format, args...), c.FullName())
}

// unknownCommand says that a word is none of c's commands, and which is nearest.
func unknownCommand(c *cli.Command, word string) error {
	near := cli.SuggestCommand(c.Commands, word)
	return wrong("%q is no command of %s%s; there are %s", word, c.FullName(), meant(word, near), names(c.Commands))
}

// meant suggests what is near a word, if it is: the library always finds something.
func meant(word, near string) string {
	bare := strings.TrimLeft(near, "-")
	if bare == "" || word == "" || bare[0] != word[0] && !strings.Contains(word, bare) &&
		!strings.Contains(bare, word) {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", near)
}

// short is the name of a command where it is plain whose it is.
func short(c *cli.Command) string { return strings.TrimPrefix(c.FullName(), c.Root().Name+" ") }

// names lists commands.
func names(commands []*cli.Command) string {
	var all []string
	for _, c := range commands {
		if !c.Hidden {
			all = append(all, c.Name)
		}
	}
	return strings.Join(all, ", ")
}

// noArguments is for commands that take flags alone.
func noArguments(action cli.ActionFunc) cli.ActionFunc {
	return func(ctx context.Context, c *cli.Command) error {
		if c.Args().Present() {
			return misused(c, "%s takes no argument such as %q", short(c), c.Args().First())
		}
		return action(ctx, c)
	}
}

// commandFirst moves the name of a command before the flags that stand before it, so that `danelaw --conf FILE check
// DOMAIN` is `danelaw check --conf FILE DOMAIN`. What is no flag and no command is left where it is.
func commandFirst(root *cli.Command, args []string) []string {
	for i := 1; i < len(args); i++ {
		name, isFlag := strings.CutPrefix(args[i], "-")
		switch {
		case name == "-" && isFlag:
			return args
		case !isFlag && root.Command(args[i]) != nil:
			return slices.Concat(args[:1], args[i:i+1], args[1:i], args[i+1:])
		case !isFlag:
			return args
		default:
			if with, without := takesValue(root, strings.TrimPrefix(name, "-")); with && !without {
				i++
			}
		}
	}
	return args
}

// takesValue reports whether there are commands that have a flag with a value behind it, and such that have it without:
// which command it is stands behind the flag.
func takesValue(c *cli.Command, name string) (with, without bool) {
	for _, f := range c.Flags {
		if doc, ok := f.(cli.DocGenerationFlag); ok && slices.Contains(f.Names(), name) {
			with, without = with || doc.TakesValue(), without || !doc.TakesValue()
		}
	}
	for _, sub := range c.Commands {
		w, wo := takesValue(sub, name)
		with, without = with || w, without || wo
	}
	return with, without
}

var (
	unknownFlag = regexp.MustCompile(`^flag provided but not defined: -+(.*)$`)
	wrongValue  = regexp.MustCompile(`(?s)^invalid value "(.*)" for flag -+([^:]*): (.*)$`)
	noValue     = regexp.MustCompile(`^flag needs an argument: -+(.*)$`)
	noTopic     = regexp.MustCompile(`(?s)^No help topic for '(.*)'$`)
)

// aboutHelp says in our words that there is no help on something, which the library alone finds out.
func aboutHelp(err error) error {
	if err == nil {
		return nil
	}
	if m := noTopic.FindStringSubmatch(err.Error()); m != nil {
		return wrong("there is no help on %q; see danelaw --help", m[1])
	}
	return err
}

// misread says in our words what the library found wrong with the flags of c.
func misread(c *cli.Command, err error) error {
	text := err.Error()
	if m := unknownFlag.FindStringSubmatch(text); m != nil {
		near := cli.SuggestFlag(c.Flags, m[1], false)
		return misused(c, "%s has no flag --%s%s", short(c), m[1], meant(m[1], near))
	}
	if m := noValue.FindStringSubmatch(text); m != nil {
		return misused(c, "--%s needs a value", m[1])
	}
	if m := wrongValue.FindStringSubmatch(text); m != nil {
		if why := ourWords(c, m[2], err, m[3]); why != "" {
			return misused(c, "--%s %s: %s", m[2], m[1], why)
		}
		return misused(c, "--%s does not take %q", m[2], m[1])
	}
	return misused(c, "%s", text)
}

// ourWords says what is wrong with the value of a flag; "" if the text is one of the language's libraries.
func ourWords(c *cli.Command, flag string, err error, text string) string {
	if !errors.As(err, new(*strconv.NumError)) && !strings.Contains(text, "parse error") &&
		!strings.HasPrefix(text, "strconv") && !strings.HasPrefix(text, "time:") {
		return text
	}
	i := slices.IndexFunc(c.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), flag) })
	if i < 0 {
		return ""
	}
	switch c.Flags[i].(type) {
	case *cli.IntFlag:
		return "give a whole number"
	case *cli.DurationFlag:
		return "give a duration such as 30s or 5m"
	case *cli.BoolFlag:
		return "give no value, or true or false"
	}
	return ""
}

// inWords is an error as a person would say it: what the operating system and the network have to say comes from Go's
// libraries in words of their calls.
func inWords(err error) string {
	text := err.Error()
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		text = strings.Replace(text, path.Error(), path.Path+": "+path.Err.Error(), 1)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Addr != nil {
		text = strings.Replace(text, op.Error(), op.Addr.String()+": "+innermost(op.Err).Error(), 1)
	}
	if call, ok := errors.AsType[*os.SyscallError](err); ok {
		text = strings.Replace(text, call.Error(), call.Err.Error(), 1)
	}
	text = strings.ReplaceAll(text, context.DeadlineExceeded.Error(), "no answer in time")
	return strings.ReplaceAll(text, context.Canceled.Error(), "interrupted")
}

// innermost returns the error that has no other within; a syscall.Errno says most.
func innermost(err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err
}

const (
	helpWidth  = 80 // columns of a terminal that nobody has made wider
	helpIndent = 3
	helpNames  = 22 // columns for a name; a longer one has a line of its own
)

// printHelp is the cli.HelpPrinter: the library's own breaks no line of a flag's usage.
func printHelp(to io.Writer, _ string, data any) {
	c := data.(*cli.Command)
	out := new(strings.Builder)
	section(out, "NAME", wrapped(c.FullName()+" - "+c.Usage, helpIndent, helpWidth))
	what := " [options] "
	if len(c.VisibleCommands()) > 0 {
		what = " COMMAND [options] "
	}
	section(out, "USAGE", verbatim(strings.TrimSpace(cmp.Or(c.UsageText, c.FullName()+what+c.ArgsUsage))))
	section(out, "DESCRIPTION", described(c.Description))
	section(out, "COMMANDS", commands(c))
	section(out, "OPTIONS", flags(c))
	io.WriteString(to, strings.TrimPrefix(out.String(), "\n"))
}

func section(out *strings.Builder, title, text string) {
	if text != "" {
		fmt.Fprintf(out, "\n%s:\n%s\n", title, strings.TrimRight(text, "\n"))
	}
}

// verbatim indents lines as they are.
func verbatim(text string) string {
	pad := strings.Repeat(" ", helpIndent)
	return pad + strings.ReplaceAll(text, "\n", "\n"+pad)
}

// described fills each paragraph; one whose lines are indented is an example and stays as it is.
func described(text string) string {
	var all []string
	for paragraph := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		if strings.HasPrefix(paragraph, " ") {
			all = append(all, verbatim(paragraph))
		} else {
			all = append(all, wrapped(paragraph, helpIndent, helpWidth))
		}
	}
	return strings.TrimRight(strings.Join(all, "\n\n"), " ")
}

func commands(c *cli.Command) (text string) {
	for _, sub := range c.VisibleCommands() {
		text += entry(sub.Name, sub.Usage)
	}
	return text
}

// repeated is how the library tells that a flag may be given several times.
var repeated = regexp.MustCompile(` \[ .* \]$`)

func flags(c *cli.Command) (text string) {
	for _, f := range c.VisibleFlags() {
		name, usage, _ := strings.Cut(cli.FlagStringer(f), "\t")
		if repeated.MatchString(name) {
			name, usage = repeated.ReplaceAllString(name, ""), usage+"; may be repeated"
		}
		text += entry(name, usage)
	}
	return text
}

// entry is a name and, beside it or below, what it is for.
func entry(name, usage string) string {
	text := wrapped(usage, helpIndent+helpNames+2, helpWidth)
	if utf8.RuneCountInString(name) > helpNames {
		return fmt.Sprintf("%*s%s\n%s\n", helpIndent, "", name, text)
	}
	return fmt.Sprintf("%*s%-*s  %s\n", helpIndent, "", helpNames, name, strings.TrimLeft(text, " "))
}

// describeCompletion shows the library's command, in our words.
func describeCompletion(c *cli.Command) {
	prepare(group(c), c.Root(), c.Name)
	c.Hidden = false
	c.Usage = "print what a shell needs to complete commands and flags"
}

// parseName reads a domain name as people write it, with letters of any script (RFC 5891).
func parseName(text string) (string, error) {
	if err := notAName(text); err != nil {
		return "", err
	}
	name, err := mail.ALabels(text)
	if err != nil {
		return "", fmt.Errorf("%q is not a domain name: %w", text, err)
	}
	odd := func(r rune) bool { return r <= ' ' || r >= 0x7f }
	if _, ok := dns.IsDomainName(name); !ok || name == "" || strings.IndexFunc(name, odd) >= 0 {
		return "", fmt.Errorf("%q is not a domain name", text)
	}
	return dns.CanonicalName(name), nil
}

// notAName tells of what is often given in the place of a domain: a URL, a mail address, an address literal, a host
// with a port.
func notAName(text string) error {
	if u, err := url.Parse(text); err == nil && u.Host != "" {
		return fmt.Errorf("%q is a URL; give the domain alone, %q", u.Redacted(), u.Hostname())
	}
	if _, domain, ok := strings.Cut(text, "@"); ok {
		return fmt.Errorf("%q is not a domain name; give the domain alone, %q", text, domain)
	}
	if a, ok := addressLiteral(text); ok {
		reverse, err := dns.ReverseAddr(a.String())
		if err != nil {
			return fmt.Errorf("%q is an address, not a domain name", text)
		}
		return fmt.Errorf("%q is an address, not a domain name: mail to an address has no MX and no TLSA; its "+
			"name in the DNS is %s", text, reverse)
	}
	if domain, rest, ok := strings.Cut(text, "/"); ok && !strings.HasSuffix(strings.TrimSuffix(text, "."), ".arpa") {
		// RFC 2317 has it
		return fmt.Errorf("%q is not a domain name; give the domain alone, %q, without /%s", text, domain, rest)
	}
	if m := withPort.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("%q has a port; give the domain alone, %q", text, m[1])
	}
	return nil
}

// withPort is a host with a port.
var withPort = regexp.MustCompile(`^(.+):\d+$`)

// addressLiteral reads an address, as it is or as mail writes it: [192.0.2.1], [IPv6:2001:db8::1] (RFC 5321 section
// 4.1.3).
func addressLiteral(text string) (netip.Addr, bool) {
	text = strings.TrimSuffix(text, ".")
	if inner, ok := strings.CutPrefix(text, "["); ok {
		text = strings.TrimSuffix(inner, "]")
		if len(text) > 5 && strings.EqualFold(text[:5], "IPv6:") {
			text = text[5:]
		}
	}
	a, err := netip.ParseAddr(text)
	return a.WithZone(""), err == nil
}
