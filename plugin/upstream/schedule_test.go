package upstream

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// What is due rings at its time, once, and in order; what is moved at the new time, and what is dropped not at all. All
// that is left rings when the schedule is closed, and what comes later at once.
func TestSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s schedule
		begun, rang := time.Now(), ""
		var mu sync.Mutex
		note := func(name string) {
			mu.Lock()
			defer mu.Unlock()
			rang += fmt.Sprint(" ", name, time.Since(begun))
		}
		entries := map[string]*due{}
		set := func(name string, after time.Duration) {
			if entries[name] == nil {
				entries[name] = &due{ring: func() { note(name) }}
			}
			s.set(entries[name], begun.Add(after))
		}
		set("c", 3*time.Second)
		set("a", time.Second)
		set("b", 2*time.Second)
		set("later", time.Second)
		set("later", 5*time.Second)
		set("sooner", time.Hour)
		set("sooner", 4*time.Second)
		set("never", 2*time.Second)
		s.drop(entries["never"])
		s.drop(entries["never"])
		time.Sleep(time.Minute)
		set("a", 150*time.Second)
		set("again", 3*time.Minute)
		time.Sleep(time.Minute)
		s.close()
		set("late", time.Hour)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if want := " a1s b2s c3s sooner4s later5s a2m0s again2m0s late2m0s"; rang != want {
			t.Errorf("rang%s,\nwant%s", rang, want)
		}
		if len(s.queue) != 0 || strings.Contains(rang, "never") {
			t.Errorf("%d left", len(s.queue))
		}
	})
}

// L-7: what must not wait is done before each of those that are due at once.
func TestPauseBeforeEachDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		did := ""
		s := schedule{pause: func() { did += " pause" }}
		for range 3 {
			s.set(&due{ring: func() { did += " ring" }}, time.Now().Add(time.Second))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if want := " pause ring pause ring pause ring"; did != want {
			t.Errorf("did%s,\nwant%s", did, want)
		}
	})
}

// L-7: what is due rings one after the other, however long one takes; what is dropped meanwhile does not, and what is
// set meanwhile does.
func TestRingsOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s schedule
		begun, did := time.Now(), ""
		note := func(name string) func() {
			return func() { did += fmt.Sprint(" ", name, time.Since(begun)) }
		}
		dropped := &due{ring: note("dropped")}
		s.set(&due{ring: func() {
			note("long")()
			s.drop(dropped)
			s.set(&due{ring: note("at once")}, begun)
			s.set(&due{ring: note("later")}, begun.Add(9*time.Second))
			time.Sleep(4 * time.Second)
		}}, begun.Add(time.Second))
		s.set(dropped, begun.Add(time.Second))
		s.set(&due{ring: note("meanwhile")}, begun.Add(3*time.Second))
		time.Sleep(time.Minute)
		synctest.Wait()
		if want := " long1s at once5s meanwhile5s later9s"; did != want {
			t.Errorf("did%s,\nwant%s", did, want)
		}
	})
}
