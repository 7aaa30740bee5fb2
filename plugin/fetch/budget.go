package fetch

import (
	"sync"

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
	questions int // to upstreams, in all

	judging sync.Mutex // one goroutine verifies per client query (L-7)
	check   *dnssec.Check

	mu      sync.Mutex
	asked   int  // questions to upstreams (L-9)
	retried int  // L-9
	guesses int  // questions on speculation (L-9)
	octets  int  // of replies (L-11)
	cold    bool // a link had to be asked for: no claim to the turn that is kept for cheap work
}

// NewBudget returns what one client query may spend.
func (f *Fetcher) NewBudget() *Budget { return &Budget{questions: f.Questions, check: f.Check()} }

// needLink notes that a link is needed that is not cached.
func (b *Budget) needLink() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cold = true
}

// askOne takes one from the questions to upstreams.
func (b *Budget) askOne() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return spend(&b.asked, 1, b.questions)
}

// askedNone gives one back: the question was another query's.
func (b *Budget) askedNone() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked--
}

// retryOne takes one from the retries.
func (b *Budget) retryOne(link bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if link {
		b.cold = true
		return spend(&b.retried, 1, maxRetries-retriesForAnswers)
	}
	return spend(&b.retried, 1, maxRetries)
}

// guessOne takes one from what may be asked on speculation.
func (b *Budget) guessOne() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return spend(&b.guesses, 1, maxGuesses)
}

// guessedNone gives one back.
func (b *Budget) guessedNone() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.guesses--
}

// receive takes n from the octets of replies.
func (b *Budget) receive(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return spend(&b.octets, n, responseOctets)
}

func (b *Budget) cheap() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.cold
}

// spend adds n to what was spent of most, if that is there.
func spend(spent *int, n, most int) bool {
	if *spent+n > most {
		return false
	}
	*spent += n
	return true
}
