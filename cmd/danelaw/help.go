package main

import (
	"cmp"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v3"
)

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

func commands(c *cli.Command) string {
	out := new(strings.Builder)
	for _, sub := range c.VisibleCommands() {
		entry(out, sub.Name, sub.Usage)
	}
	return out.String()
}

// repeated is how the library tells that a flag may be given several times.
var repeated = regexp.MustCompile(` \[ .* \]$`)

func flags(c *cli.Command) string {
	out := new(strings.Builder)
	for _, f := range c.VisibleFlags() {
		name, usage, _ := strings.Cut(cli.FlagStringer(f), "\t")
		if repeated.MatchString(name) {
			name, usage = repeated.ReplaceAllString(name, ""), usage+"; may be repeated"
		}
		entry(out, name, usage)
	}
	return out.String()
}

// entry writes a name and, beside it or below, what it is for.
func entry(out *strings.Builder, name, usage string) {
	text := wrapped(usage, helpIndent+helpNames+2, helpWidth)
	if utf8.RuneCountInString(name) > helpNames {
		fmt.Fprintf(out, "%s%s\n%s\n", strings.Repeat(" ", helpIndent), name, text)
		return
	}
	fmt.Fprintf(out, "%*s%-*s  %s\n", helpIndent, "", helpNames, name, strings.TrimLeft(text, " "))
}

// describeCompletion shows the library's command, in our words.
func describeCompletion(c *cli.Command) {
	prepare(group(c), c.Root())
	c.Hidden = false
	c.Usage = "print what a shell needs to complete commands and flags"
	c.Description = "For the shell that runs now, and in its start-up file for those to come:\n\n" +
		"  source <(danelaw completion bash)\n" +
		"  source <(danelaw completion zsh)\n" +
		"  danelaw completion fish | source"
}
