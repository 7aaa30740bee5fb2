package danelaw

import (
	"fmt"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/upstream"
)

// The forms of requests and replies on the control socket, JSON that programs rely on. Names end with a dot, times are
// in UTC, "by server block" is by its keys as metrics have them.
type (
	// StatusReply is how the daemon is.
	StatusReply struct {
		Version string                  `json:"version"`
		Since   time.Time               `json:"since"` // when the process was started
		Now     time.Time               `json:"now"`   // as its clock has it
		Ready   bool                    `json:"ready"` // all blocks are
		NTAs    []NTA                   `json:"negative_trust_anchors"`
		Blocks  map[string]*BlockStatus `json:"blocks"` // by server block
	}
	// BlockStatus is how one server block is.
	BlockStatus struct {
		Ready     bool             `json:"ready"`
		Obstacle  string           `json:"obstacle,omitempty"` // the step that is not done, in a sentence
		Upstreams []UpstreamStatus `json:"upstreams"`          // in the order of the configuration
		// Anchors are, by zone, "KEYTAG ALGORITHM DIGESTTYPE" of those in use; none: the zone counts as unsigned
		// (T-15).
		Anchors  map[string][]string `json:"trust_anchors"`
		Concerns []string            `json:"trust_anchor_concerns,omitempty"` // as those of AnchorPoint
		Private  []string            `json:"private,omitempty"`               // zones
		Policies *PoliciesStatus     `json:"policies,omitempty"`              // of the policy service, if it is on
		Cache    CacheStats          `json:"cache"`
		Verdicts map[string]uint64   `json:"verdicts_last_hour"` // replies, by verdict as in the metrics
		Failures []FailureStatus     `json:"failures"`           // the latest first, one for each question
	}
	// PoliciesStatus is what the policy service knows of MTA-STS.
	PoliciesStatus struct {
		Held     int             `json:"held"`     // in force
		Enforced int             `json:"enforced"` // those of them in the mode enforce
		Vanished int             `json:"vanished"` // those of them that are not there any more, and hold on
		Failures []PolicyFailure `json:"failures"` // of the last tries, the latest first; a few
	}
	// PolicyFailure is a policy that could not be had.
	PolicyFailure struct {
		Domain     string    `json:"domain"`
		At         time.Time `json:"at"`
		ResultType string    `json:"result_type"` // of RFC 8460
		Text       string    `json:"text"`
	}
	// UpstreamStatus is what is known of one upstream.
	UpstreamStatus struct {
		Upstream string  `json:"upstream"` // its address
		Fit      bool    `json:"fit"`      // it has not failed the last test of fitness (S-13)
		Alive    bool    `json:"alive"`    // it answers
		RTT      float64 `json:"rtt_ms"`   // smoothed, in milliseconds; 0 before the first reply
	}
	// FailureStatus is a question that a client got SERVFAIL for.
	FailureStatus struct {
		Name string    `json:"name"`
		Type string    `json:"type"`
		At   time.Time `json:"at"` // when a client was first told
		Text string    `json:"text"`
	}
	// PolicyReply is what the policy service answers about a domain.
	PolicyReply struct {
		Domain string `json:"domain"`
		Level  string `json:"level"` // dane-only, dane, secure, none or temp
		Why    string `json:"why"`
		// names of hosts, of which the certificate has one, or .DOMAIN for those in it; of the level secure
		Match         []string   `json:"match,omitempty"`
		STS           *PolicySTS `json:"mta_sts,omitempty"`     // held, and in force
		ResultType    string     `json:"result_type,omitempty"` // of RFC 8460, if a policy cannot be had or renewed
		Failure       string     `json:"failure,omitempty"`     // why not
		Postfix       string     `json:"postfix"`               // the reply to the map QUERY
		PostfixTLSRPT string     `json:"postfix_tlsrpt"`        // the reply to the map QUERYwithTLSRPT
	}
	// PolicySTS is a policy of MTA-STS.
	PolicySTS struct {
		ID      string    `json:"id"`
		Mode    string    `json:"mode"`
		MX      []string  `json:"mx"`
		MaxAge  int64     `json:"max_age"` // seconds
		Fetched time.Time `json:"fetched"`
		Until   time.Time `json:"until"`
	}
	// AnchorsReply tells how the zones with trust anchors are, and their keys (RFC 5011).
	AnchorsReply struct {
		Points []AnchorPoint `json:"points"` // by zone
		Kept   bool          `json:"kept_over_restart"`
	}
	// AnchorPoint is one such zone.
	AnchorPoint struct {
		Zone      string      `json:"zone"`
		Trusted   int         `json:"trusted"`               // keys
		Refreshed time.Time   `json:"refreshed,omitzero"`    // when its keys last came, signed by a trusted one
		Next      time.Time   `json:"next_refresh,omitzero"` // when they are asked for again
		Stale     bool        `json:"stale"`                 // that was too long ago
		Fault     string      `json:"fault,omitempty"`       // why it failed since
		Concerns  []string    `json:"concerns"`              // what somebody has to know or to do, a sentence each
		Keys      []AnchorKey `json:"keys"`
	}
	// AnchorKey is a key of such a zone.
	AnchorKey struct {
		KeyTag    uint16    `json:"key_tag"`
		Algorithm uint8     `json:"algorithm"`
		State     string    `json:"state"` // as RFC 5011 has it; "Unseen": configured, and never seen in the zone
		Trusted   bool      `json:"trusted"`
		Retiring  bool      `json:"retiring"` // it signs no more, and may soon be revoked
		Since     time.Time `json:"since,omitzero"`
		Next      time.Time `json:"next,omitzero"` // when it comes to its next state, if nothing else happens
		Text      string    `json:"text"`          // all that in a sentence
	}
	// AnchorsRequest asks for further trust anchors.
	AnchorsRequest struct {
		DS []string `json:"ds"` // records
	}
	// NTARequest asks for a negative trust anchor.
	NTARequest struct {
		Zone   string `json:"zone"`
		Life   string `json:"life"` // as time.ParseDuration reads it
		Keep   bool   `json:"keep,omitempty"`
		Reason string `json:"reason,omitempty"`
	}
	// NTAReply tells which negative trust anchors are there.
	NTAReply struct {
		NTAs []NTA `json:"negative_trust_anchors"`
		Kept bool  `json:"kept_over_restart"`
		Well bool  `json:"well,omitempty"` // of one just added: all tests passed
	}
	// NTA is a negative trust anchor in use (RFC 7646). The file that keeps them has the same form.
	NTA struct {
		Zone   string    `json:"zone"` // canonical
		Begun  time.Time `json:"begun"`
		Until  time.Time `json:"until"`
		Keep   bool      `json:"keep,omitempty"` // it is not dropped when the zone validates
		Reason string    `json:"reason,omitempty"`
		Block  string    `json:"block,omitempty"` // the server block whose Corefile has it; without one it is for all
		Over   string    `json:"over,omitempty"`  // why it ended, if a Corefile still has it
		Tests  []Test    `json:"tests,omitempty"` // what is tried again
		Tested time.Time `json:"tested,omitzero"`
	}
	// Test is a question that failed, and what came when it was tried the last time.
	Test struct {
		Name   string `json:"name"`
		Type   string `json:"type"`
		Result string `json:"result,omitempty"` // the security status, and why
	}
	// FlushReply tells what was forgotten.
	FlushReply struct {
		Blocks map[string]Flushed `json:"blocks"` // by server block
	}
	// Flushed is what one block has forgotten.
	Flushed struct {
		Answers  int `json:"answers"`  // validated, denials among them
		Zones    int `json:"zones"`    // names known to be zone cuts, or to be none
		Failures int `json:"failures"` // of questions and of links
	}
	// CacheReply tells how much is remembered.
	CacheReply struct {
		Blocks map[string]CacheStats `json:"blocks"` // by server block
	}
	// CacheStats is how much one block remembers. Counters begin at the start of the process.
	CacheStats struct {
		Answers    CacheSize `json:"answers"`
		Zones      CacheSize `json:"zones"`
		Failures   CacheSize `json:"failures"`
		Proofs     CacheSize `json:"proofs"`     // for aggressive use (C-9)
		Signatures CacheSize `json:"signatures"` // that were verified (L-1)
		Limit      int64     `json:"limit_bytes"`
		Hits       float64   `json:"hits"`
		Misses     float64   `json:"misses"`
		Stale      float64   `json:"stale"` // answers told past their TTL (serve_stale)
	}
	// CacheSize is that of one part of the cache.
	CacheSize struct {
		Bytes   int64 `json:"bytes"`
		Entries int   `json:"entries"`
	}
	// DumpReply tells what is remembered of a name and those below it.
	DumpReply struct {
		Blocks map[string]DumpBlock `json:"blocks"` // by server block
	}
	// DumpBlock is that of one block.
	DumpBlock struct {
		Entries []DumpEntry `json:"entries"`
		Found   int         `json:"found"` // all there are; more than Entries if there are too many
	}
	// DumpEntry is one answer or failure.
	DumpEntry struct {
		Name    string   `json:"name"`
		Type    string   `json:"type"` // that of the question; "" if no type of the name exists
		Status  string   `json:"status"`
		Rcode   string   `json:"rcode"`
		TTL     uint32   `json:"ttl"` // seconds until it is forgotten
		Records []string `json:"records,omitempty"`
		Notes   []string `json:"notes,omitempty"` // why it is not Secure
	}
	// Alarm is what the command of notify reads.
	Alarm struct {
		Kind    AlarmKind  `json:"kind"`
		State   AlarmState `json:"state"`
		Subject string     `json:"subject"` // a domain, a zone, or a name and a type
		What    string     `json:"what"`    // tells it from others of the same subject
		Text    string     `json:"text"`    // one sentence; of one that is resolved what it was
		At      time.Time  `json:"at"`      // when it came to this state
		Host    string     `json:"host"`    // this one
	}
	// AlarmState is one of two.
	AlarmState string
	// ErrorReply says why a request failed.
	ErrorReply struct {
		Error string `json:"error"`
	}
)

// The states of an alarm.
const (
	Raised   AlarmState = "raised"
	Resolved AlarmState = "resolved"
)

// State is the state of an upstream in words.
func (u UpstreamStatus) State() string {
	switch {
	case !u.Alive:
		return "does not answer"
	case !u.Fit:
		return "not fit for validation: asked last"
	case u.RTT == 0:
		return "not asked yet"
	}
	return fmt.Sprintf("answers in %.1f ms", u.RTT)
}

func upstreamsTold(states []upstream.State) []UpstreamStatus {
	told := []UpstreamStatus{}
	for _, s := range states {
		told = append(told, UpstreamStatus(s))
	}
	return told
}

func cacheTold(h *Handler) CacheStats {
	sizes := h.memory.Sizes()
	return CacheStats{
		Answers: CacheSize(sizes.Answers), Zones: CacheSize(sizes.Zones), Failures: CacheSize(sizes.Failures),
		Proofs: CacheSize(sizes.Proofs), Signatures: CacheSize(sizes.Signatures),
		Limit: h.config.CacheSize, Hits: count64(h.meter.hits), Misses: count64(h.meter.misses),
		Stale: count64(h.meter.stale),
	}
}

func dumpTold(h *Handler, name string, most int) DumpBlock {
	entries, found := h.resolving.Dump(name, most)
	told := DumpBlock{Found: found}
	for _, e := range entries {
		told.Entries = append(told.Entries, DumpEntry(e))
	}
	return told
}
