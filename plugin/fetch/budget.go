package fetch

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

const (
	// responseOctets is how many octets of replies one client query may use (L-11).
	responseOctets = 256 << 10
	// maxRetries bounds the further tries of V-14 for one client query (L-9).
	maxRetries = 10
	// retriesForAnswers are those of them that links may not spend.
	retriesForAnswers = 2
	// maxGuesses is how many questions may be asked for one client query on speculation (L-9).
	maxGuesses = 6
)

// Budget is what may be spent for one client query, by everything that is done for it (L-6). Several accounts may spend
// one. It is safe for concurrent use.
type Budget struct {
	verifying
	questions int // to upstreams, in all

	mu      sync.Mutex
	asked   int      // questions to upstreams (L-9)
	retried int      // L-9
	guesses int      // questions on speculation (L-9)
	octets  int      // of replies (L-11)
	suspect []string // upstreams whose word another's has shown to be wrong (V-14)
}

// verifying is a client query's part in the queue of those that verify (L-7).
type verifying struct {
	judging sync.Mutex // one goroutine verifies per client query; guards check, turn, waits and place
	check   *dnssec.Check
	turns   *turns
	turn    *turn           // nil: it is not its turn
	waits   context.Context // for it
	place   waiter          // in the queue for it
	cold    atomic.Bool     // a link had to be asked for: no claim to the turn that is kept for cheap work
}

// NewBudget returns what one client query may spend.
func (f *Fetcher) NewBudget() *Budget {
	b := &Budget{questions: f.Questions, verifying: verifying{check: f.Check(), turns: f.turns, place: newWaiter()}}
	b.check.Yield = b.yield
	return b
}

// await waits for the turn to verify; judging is held.
func (v *verifying) await(ctx context.Context) (err error) {
	v.waits = ctx
	v.turn, err = v.turns.acquire(ctx, v.cheap(), &v.place)
	return err
}

// release gives the turn back, if it has it.
func (v *verifying) release() {
	if v.turn != nil {
		v.turns.release(v.turn)
		v.turn = nil
	}
}

// yield lets the next in the queue verify.
func (v *verifying) yield() error {
	v.release()
	return v.await(v.waits)
}

// needLink notes that a link is needed that is not cached.
func (b *Budget) needLink() { b.cold.Store(true) }

// askOne takes one from the questions to upstreams.
func (b *Budget) askOne() bool { return b.spend(&b.asked, 1, b.questions) }

// askedNone gives one back: the question was another query's.
func (b *Budget) askedNone() { b.spend(&b.asked, -1, b.questions) }

// retryOne takes one from the retries.
func (b *Budget) retryOne(link bool) bool {
	if link {
		b.needLink()
		return b.spend(&b.retried, 1, maxRetries-retriesForAnswers)
	}
	return b.spend(&b.retried, 1, maxRetries)
}

// guessOne takes one from what may be asked on speculation.
func (b *Budget) guessOne() bool { return b.spend(&b.guesses, 1, maxGuesses) }

// guessedNone gives one back.
func (b *Budget) guessedNone() { b.spend(&b.guesses, -1, maxGuesses) }

// receive takes n from the octets of replies.
func (b *Budget) receive(n int) bool { return b.spend(&b.octets, n, responseOctets) }

// avoid returns whom to avoid: the suspects, and then those that were wrong about the very question.
func (b *Budget) avoid(wrong ...string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.suspect) == 0 {
		return wrong
	}
	return slices.Concat(slices.DeleteFunc(slices.Clone(b.suspect), func(upstream string) bool {
		return slices.Contains(wrong, upstream)
	}), wrong)
}

func (v *verifying) cheap() bool { return !v.cold.Load() }

// spend adds n to what was spent of most, if that is there.
func (b *Budget) spend(spent *int, n, most int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if *spent+n > most {
		return false
	}
	*spent += n
	return true
}
