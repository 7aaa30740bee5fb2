package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"

	"github.com/cpuguy83/go-md2man/v2/md2man"
)

// manuals makes the manual pages: danelaw(8) and one for each command of what danelaw says by --help, and
// coredns-danelaw(7) of the plugin's README.
func (b *build) manuals() error {
	root, err := b.help()
	if err != nil {
		return err
	}
	serve, err := b.help("serve")
	if err != nil {
		return err
	}
	see := []string{"coredns-danelaw(7)"}
	for _, c := range root.entries("COMMANDS") {
		if c.name == "serve" {
			continue
		}
		see = append(see, "danelaw-"+c.name+"(1)")
		if err := b.manualOf(c.name); err != nil {
			return err
		}
	}
	text := root.name("danelaw") + root.synopsis() + serve.description("DESCRIPTION") +
		serve.list("OPTIONS", "OPTIONS") + root.list("COMMANDS", "COMMANDS") + files + seeAlso(see)
	if err := b.manual("danelaw", 8, text); err != nil {
		return err
	}
	readme, err := os.ReadFile(filepath.Join(project, "plugin/danelaw/README.md"))
	if err != nil {
		return err
	}
	const page = "coredns-danelaw"
	_, body, found := strings.Cut(string(readme), "\n## Name\n\n*danelaw* - ")
	if !found {
		return fmt.Errorf("the README of the plugin does not begin with its name")
	}
	return b.manual(page, 7, "# NAME\n\n"+page+" - "+localLink.ReplaceAllString(body, "$1"))
}

// localLink is a link that leads nowhere outside the project.
var localLink = regexp.MustCompile(`\[([^\]]+)\]\((?:[^:)]*)\)`)

// files are what the packages have, and the unit of theirs.
const files = "# FILES\n\n" +
	"`/etc/danelaw/Corefile`\n: what the service does, see **coredns-danelaw(7)**\n\n" +
	"`/var/lib/danelaw`\n: what it has learned of trust anchors, and negative trust anchors\n\n" +
	"`/run/danelaw/control.sock`\n: where its commands find the daemon; for root and the user danelaw\n\n" +
	"`/usr/share/doc/danelaw/mailhost.md`\n: how to give a mail server this resolver\n\n"

func seeAlso(pages []string) string {
	for i, p := range pages {
		pages[i] = "**" + strings.Replace(p, "(", "**(", 1)
	}
	return "# SEE ALSO\n\n" + strings.Join(pages, ", ") + "\n"
}

// manualOf makes the page of a command, with those below it.
func (b *build) manualOf(command string) error {
	h, err := b.help(command)
	if err != nil {
		return err
	}
	text := h.name("danelaw-"+command) + h.synopsis() + h.description("DESCRIPTION") + h.list("OPTIONS", "OPTIONS")
	for _, c := range h.entries("COMMANDS") {
		sub, err := b.help(command, c.name)
		if err != nil {
			return err
		}
		text += "# " + strings.ToUpper(command+" "+c.name) + "\n\n" + escape(capital(c.usage)) + ".\n\n" +
			sub.usage() + sub.description("") + sub.list("OPTIONS", "")
	}
	readme, err := os.ReadFile(filepath.Join(project, "cmd/danelaw/README.md"))
	if err != nil {
		return err
	}
	for part := range strings.SplitSeq("\n"+string(readme), "\n# ") {
		if strings.HasPrefix(part, "danelaw "+command+" ") {
			text += "# " + part + "\n"
		}
	}
	return b.manual("danelaw-"+command, 1, text+"\n"+seeAlso([]string{"danelaw(8)", "coredns-danelaw(7)"}))
}

var (
	// chapter is a heading of a README, whose title has the first level for itself.
	chapter = regexp.MustCompile(`(?m)^## .*$`)
	section = regexp.MustCompile(`(?m)^### `)
	// row is one of a table with two columns, which is a list in a page: a terminal has no room for tables. Above
	// stand the names of the columns.
	row   = regexp.MustCompile(`(?m)^\| (.*?) \| (.*) \|$`)
	above = regexp.MustCompile(`(?m)^\| .* \|\n\|-+\|-+\|\n`)
)

// manual writes a page, made of Markdown.
func (b *build) manual(name string, number int, text string) error {
	text = row.ReplaceAllString(above.ReplaceAllString(text, ""), "$1\n: $2\n")
	text = section.ReplaceAllString(chapter.ReplaceAllStringFunc(text, strings.ToUpper), "## ")
	text = strings.ReplaceAll("\n"+text, "\n## ", "\n# ")
	title := fmt.Sprintf("# %q \"%d\" %q %q\n", name, number, b.date.Format("2006-01-02"), "danelaw "+b.version)
	page := string(md2man.Render([]byte(title + text)))
	page = strings.Replace(page, "\n.SH", "\n.ad l\n.SH", 1) // ragged lines: some names are long
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, page) //nolint:errcheck // a buffer takes everything
	z.Close()               //nolint:errcheck // likewise
	return b.write(fmt.Sprintf("all/usr/share/man/man%d/%s.%[1]d.gz", number, name), packed.Bytes())
}

// help is what danelaw says by --help: sections, whose lines are without their indentation.
type help map[string][]string

const (
	indentation = 3  // of all lines
	column      = 24 // where the text beside a name begins, without the indentation
)

// help asks for the help of a command.
func (b *build) help(command ...string) (help, error) {
	out, err := b.ask(append(command, "--help")...)
	if err != nil {
		return nil, err
	}
	h, section := help{}, ""
	for line := range strings.Lines(string(out)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "":
			h[section] = append(h[section], "")
		case line[0] != ' ':
			section = strings.TrimSuffix(line, ":")
		default:
			h[section] = append(h[section], line[indentation:])
		}
	}
	if len(h["NAME"]) == 0 || len(h["USAGE"]) == 0 {
		return nil, fmt.Errorf("the help of %v is not as it was:\n%s", command, out)
	}
	return h, nil
}

func (h help) name(page string) string {
	_, what, _ := strings.Cut(strings.Join(h["NAME"], " "), " - ")
	return "# NAME\n\n" + page + " - " + escape(strings.TrimSpace(what)) + "\n\n"
}

func (h help) synopsis() string { return "# SYNOPSIS\n\n" + h.usage() }

func (h help) usage() string {
	return "~~~\n" + strings.TrimSpace(strings.Join(h["USAGE"], "\n")) + "\n~~~\n\n"
}

// description is the text of that section. Paragraphs whose lines are indented are examples.
func (h help) description(heading string) (text string) {
	for paragraph := range strings.SplitSeq(strings.TrimSpace(strings.Join(h["DESCRIPTION"], "\n")), "\n\n") {
		switch {
		case strings.HasPrefix(paragraph, " "):
			text += "~~~\n" + paragraph + "\n~~~\n\n"
		case paragraph != "":
			text += escape(paragraph) + "\n\n"
		}
	}
	return under(heading, text)
}

// entry is a name with what it is for.
type entry struct{ name, usage string }

// entries are those of a section: a name, its text beside it or below.
func (h help) entries(section string) (all []entry) {
	for _, line := range h[section] {
		name := strings.TrimSpace(line[:min(column, len(line))])
		switch {
		case strings.HasPrefix(line, " "):
			all[len(all)-1].usage += " " + strings.TrimSpace(line)
		case len(line) > column && line[column-1] != ' ':
			all = append(all, entry{name: line})
		case line != "":
			all = append(all, entry{name, strings.TrimSpace(line[min(column, len(line)):])})
		}
	}
	return all
}

// list is such a section as a list.
func (h help) list(section, heading string) (text string) {
	for _, e := range h.entries(section) {
		text += "**" + escape(e.name) + "**\n: " + escape(strings.TrimSpace(e.usage)) + "\n\n"
	}
	return under(heading, text)
}

// under puts a heading above a text, if there is any.
func under(heading, text string) string {
	if heading == "" || text == "" {
		return text
	}
	return "# " + heading + "\n\n" + text
}

var special = regexp.MustCompile("[\\\\`*_{}\\[\\]<>#|~]")

// escape has Markdown take a text as it is.
func escape(text string) string { return special.ReplaceAllString(text, `\$0`) }

func capital(text string) string {
	r := []rune(text)
	r[0] = unicode.ToUpper(r[0])
	return string(r)
}
