package fastpath

// goLast has all goroutines run that wait for this processor (L-7). With runtime.Gosched those would go before, too,
// that come meanwhile: the scheduler of Go then looks for who calls it only each 61st time that it takes somebody from
// the queue, which is 200 ms where much is to be done.
//
// Who is woken runs next, with what is left of the time slice of who woke him. He is put behind all others when one
// more is woken, and has a time slice of his own when it is his turn.
func goLast() {
	behind := make(chan struct{})
	go func() {
		close(behind)
		go func() {}()
	}()
	<-behind
}

// fairness is how many goroutines the scheduler of Go runs before it takes one from the queue of those that have let
// others go first and of those for whom something has come to a socket. Who is woken by another does not count, so if
// such go on for long, that is long, too.
const fairness = 61

// letIn has as many goroutines run as it takes until one of that queue does.
func letIn() {
	for range fairness {
		go func() {}()
	}
}
