package main

import (
	"context"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"
)

// planner plans what setup does on a host. What it asks of the network is in fields, so that tests can answer.
type planner struct {
	machine *machine
	journal *journal // of an earlier setup
	c       *cli.Command
	network setupNetwork

	conf      string     // the daemon's Corefile
	listen    netip.Addr // where danelaw is to be asked
	upstreams []string   // that are to be written into the Corefile; none if those there stay
	steps     []step
	notes     []string // what is told beside the plan
}

// setupNetwork is what setup wants to know of danelaw and of the internet.
type setupNetwork struct {
	// examines a Corefile: where it listens, and which of its upstreams are fit for validation
	examine func(ctx context.Context, name, corefile string) (*examined, error)
	// fails unless the daemon's user could serve it
	validate func(ctx context.Context, name, corefile string) error
	// waits until danelaw answers at an address, with such upstreams
	answers func(ctx context.Context, at netip.Addr, upstreams []string) error
	// names whoever else keeps danelaw from listening there
	holders func(at netip.Addr) []string
}

// step is a part of the plan.
type step struct {
	alteration
	late  func() (string, error)          // the content of the file, where that is known only when its turn comes
	check func(ctx context.Context) error // whether it has worked
}

// makePlan makes the plan: danelaw first, which must answer before anything depends on it (S-30).
func (p *planner) makePlan(ctx context.Context) error {
	mta, err := p.mailServers(ctx)
	if err != nil {
		return err
	}
	for _, part := range []func(ctx context.Context) error{p.planDanelaw, mta.planBefore, p.planResolver, mta.plan} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// change adds a change of a file to the plan, unless the file is so already; its directory is made if there is none.
func (p *planner) change(e alteration, made func(now fileState) (fileState, error)) (planned bool, err error) {
	e.File = behind(p.machine, e.File)
	if e.Before, err = look(p.machine.path(e.File)); err != nil {
		return false, err
	}
	if e.After, err = made(e.Before); err != nil || e.After.is(e.Before) {
		return false, err
	}
	if err := p.directory(filepath.Dir(e.File)); err != nil {
		return false, err
	}
	p.steps = append(p.steps, step{alteration: e})
	return true, nil
}

// behind is the file that a symbolic link to one leads to: the link stays. resolv.conf is replaced itself.
func behind(m *machine, file string) string {
	at, err := filepath.EvalSymlinks(m.path(file))
	root, rootErr := filepath.EvalSymlinks(m.root)
	if file == resolvConf || err != nil || rootErr != nil || !strings.HasPrefix(at, root) {
		return file
	}
	return filepath.Join("/", strings.TrimPrefix(at, root))
}

// directory adds that one is made, and those above it.
func (p *planner) directory(dir string) error {
	now, err := look(p.machine.path(dir))
	planned := slices.ContainsFunc(p.steps, func(st step) bool { return st.File == dir })
	if err != nil || now.Kind != "" || planned {
		return err
	}
	if err := p.directory(filepath.Dir(dir)); err != nil {
		return err
	}
	made := aFile("")
	made.Kind, made.Mode, made.Content = kindDir, 0o755, nil
	p.steps = append(p.steps, step{alteration: alteration{What: "make the directory " + dir, File: dir, After: made,
		Back: dir + " is removed, if it is empty"}})
	return nil
}
