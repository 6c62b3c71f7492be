package main

import (
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// console reads a FIFO or a pipe on a thread of its own, and notes when the first byte came.
type console struct {
	fd    int
	first time.Time
	text  strings.Builder
	stop  atomic.Bool
	done  chan struct{}
}

// openFIFO makes a FIFO and reads it. It does not wait for somebody who writes.
func openFIFO(path string) (*console, error) {
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return readFrom(fd), nil
}

func readFrom(fd int) *console {
	c := &console{fd: fd, done: make(chan struct{})}
	go c.read()
	return c
}

func (c *console) read() {
	// Never given back: the thread ends with the goroutine.
	runtime.LockOSThread()
	defer close(c.done)
	buffer := make([]byte, 4096)
	for {
		fds := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 20)
		now := time.Now()
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return
		case n == 0 && c.stop.Load():
			return
		case n == 0:
			continue
		}
		n, err = unix.Read(c.fd, buffer)
		if n > 0 {
			if c.first.IsZero() {
				c.first = now
			}
			c.text.Write(buffer[:n])
			continue
		}
		// Its end, or somebody opened and closed it before the guest had it.
		if c.stop.Load() {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// close reads what is there and ends; when the first byte came, and what was said.
func (c *console) close() (time.Time, string) {
	c.stop.Store(true)
	<-c.done
	unix.Close(c.fd)
	return c.first, c.text.String()
}
