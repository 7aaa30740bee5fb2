package differential

import (
	"slices"
	"testing"
)

// mostTries is how many changes are tried to make a case smaller.
const mostTries = 400

// shrink removes from a case all that is not needed for the complaint about its last question.
func (r *rig) shrink(c *Case, complaint string) *Case {
	s := &shrinker{c: c, left: mostTries, holds: func(d *Case) bool { return r.again(d, complaint, 2) }}
	return s.shrink()
}

type shrinker struct {
	c     *Case
	left  int
	holds func(*Case) bool
}

// shrink goes on until nothing more can be removed, or too much has been tried.
func (s *shrinker) shrink() *Case {
	for changed := true; changed && s.left > 0; {
		changed = s.questions() || s.faults() || s.zones() || s.records() || s.settings()
	}
	return s.c
}

// try changes the case, and keeps the change if the complaint is still there.
func (s *shrinker) try(change func(*Case)) bool {
	if s.left--; s.left < 0 {
		return false
	}
	d := s.c.clone()
	change(d)
	if d.String() == s.c.String() || !s.holds(d) {
		return false
	}
	s.c = d
	return true
}

// each tries to remove each of n things, the last one first.
func (s *shrinker) each(n int, remove func(c *Case, i int)) (changed bool) {
	for i := n - 1; i >= 0; i-- {
		changed = s.try(func(c *Case) { remove(c, i) }) || changed
	}
	return changed
}

func (s *shrinker) questions() bool {
	changed := s.try(func(c *Case) { c.Questions = c.Questions[len(c.Questions)-1:] })
	return s.each(len(s.c.Questions)-1, func(c *Case, i int) { c.Questions = slices.Delete(c.Questions, i, i+1) }) ||
		changed
}

func (s *shrinker) faults() bool {
	return s.each(len(s.c.Faults), func(c *Case, i int) { c.Faults = slices.Delete(c.Faults, i, i+1) })
}

// zones tries to remove each zone: first with the zones below it, then alone.
func (s *shrinker) zones() (changed bool) {
	for i := len(s.c.Zones) - 1; i > 0; i = min(i, len(s.c.Zones)) - 1 {
		name := s.c.Zones[i].Name
		changed = s.try(func(c *Case) { c.drop(func(z string) bool { return inside(name, z) }) }) ||
			s.try(func(c *Case) { c.drop(func(z string) bool { return z == name }) }) || changed
	}
	return changed
}

// drop removes zones, with the faults in them.
func (c *Case) drop(gone func(zone string) bool) {
	c.Zones = slices.DeleteFunc(c.Zones, func(z Zone) bool { return gone(z.Name) })
	c.Faults = slices.DeleteFunc(c.Faults, func(f Fault) bool { return gone(f.Zone) })
}

func (s *shrinker) records() (changed bool) {
	for i := range s.c.Zones {
		changed = s.try(func(c *Case) { c.Zones[i].Records = nil }) || changed
		changed = s.each(len(s.c.Zones[i].Records), func(c *Case, n int) {
			c.Zones[i].Records = slices.Delete(c.Zones[i].Records, n, n+1)
		}) || changed
	}
	return changed
}

// settings tries to give zones the usual settings.
func (s *shrinker) settings() bool {
	changed := s.try(func(c *Case) { c.OneServer = false })
	for _, simplify := range []func(*Zone){
		func(z *Zone) { z.Algorithms = []uint8{13} },
		func(z *Zone) { z.Algorithms = z.Algorithms[:1] },
		func(z *Zone) { z.Digests = []uint8{2} },
		func(z *Zone) { z.Split = false },
		func(z *Zone) { z.Island = false },
		func(z *Zone) { z.Iterations = 0 },
		func(z *Zone) { z.Salt = "" },
		func(z *Zone) { z.Denial, z.Iterations, z.Salt = "nsec", 0, "" },
	} {
		changed = s.each(len(s.c.Zones), func(c *Case, i int) {
			if z := &c.Zones[i]; !z.Unsigned {
				simplify(z)
			}
		}) || changed
	}
	return changed
}

// TestShrink: what a complaint does not depend on is removed.
func TestShrink(t *testing.T) {
	for seed := range uint64(50) {
		c := generate(seed)
		s := &shrinker{c: c, left: 10000,
			holds: func(d *Case) bool { return len(d.Zones[0].Records) > 0 && len(d.Questions) > 0 }}
		small := s.shrink()
		if len(small.Zones) != 1 || len(small.Zones[0].Records) != 1 || len(small.Faults) != 0 ||
			len(small.Questions) != 1 {
			t.Fatalf("seed %d: still\n%s", seed, small)
		}
	}
}
