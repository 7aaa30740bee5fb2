package server

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Redis is a redis-server of Debian's that several danelaws share, without a file and on a processor of those that ask.
type Redis struct {
	dir     string
	command *exec.Cmd
}

// StartRedis starts an empty one.
func StartRedis() (*Redis, error) {
	path, err := find("redis-server")
	if err != nil {
		return nil, fmt.Errorf("redis is %w (no program redis-server); on Debian: apt-get install redis-server",
			ErrMissing)
	}
	dir, err := os.MkdirTemp("", "danelaw-bench-")
	if err != nil {
		return nil, err
	}
	r := &Redis{dir: dir}
	r.command = exec.Command(path, "--port", "0", "--unixsocket", r.Socket(), "--save", "", "--dir", dir,
		"--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lru")
	if err := r.command.Start(); err != nil {
		os.RemoveAll(dir) //nolint:errcheck // it is one for temporary files
		return nil, err
	}
	for over := time.Now().Add(startTime); ; time.Sleep(askEvery) {
		conn, err := net.Dial("unix", r.Socket())
		if err == nil {
			return r, conn.Close()
		}
		if time.Now().After(over) {
			r.Stop()
			return nil, fmt.Errorf("redis does not answer in %v: %w", startTime, err)
		}
	}
}

// Socket is the path at which it answers.
func (r *Redis) Socket() string { return filepath.Join(r.dir, "redis.sock") }

// Hang has it answer nothing any more, as a host does that has lost its disk.
func (r *Redis) Hang() error { return r.command.Process.Signal(syscall.SIGSTOP) }

// Stop ends it.
func (r *Redis) Stop() {
	r.command.Process.Kill() //nolint:errcheck // it has ended
	r.command.Wait()         //nolint:errcheck // it was killed
	os.RemoveAll(r.dir)      //nolint:errcheck // it is one for temporary files
}
