//go:build race

package main

// floodLasts is how long a flood does. With the race detector, on a busy machine, all that has come in half a second
// may still be verified at its end; after 4.5 s each client has an answer (L-10).
const floodLasts = "6s"
