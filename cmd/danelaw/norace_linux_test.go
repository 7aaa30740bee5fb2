//go:build !race

package main

// floodLasts is how long a flood does.
const floodLasts = "500ms"
