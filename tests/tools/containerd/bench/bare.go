package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// kernelPath is where a monitor of ours sees its kernel.
const kernelPath = "/guest/kernel"

// bare is the monitor as our shim runs it, without our shim.
type bare struct {
	program string
	args    []string
	env     []string
	errors  string
}

// bareMonitor runs a container of ours and reads what was planned for it: the network is known at Start.
func (b *bench) bareMonitor() (*bare, error) {
	c, err := b.newContainer(&b.urunc, b.urunc.brief)
	if err != nil {
		return nil, err
	}
	defer c.remove()
	defer c.end()
	if err := c.start(); err != nil {
		return nil, err
	}
	pattern := filepath.Join(os.Getenv("URUNC_ROOT"), "*", b.namespace(), c.id, "start.json")
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) != 1 {
		return nil, fmt.Errorf("%d files are %s, not one", len(paths), pattern)
	}
	text, err := os.ReadFile(paths[0])
	if err != nil {
		return nil, err
	}
	var plan struct {
		Launch struct {
			Program string
			Args    []string
			Env     []string
		}
	}
	if err := json.Unmarshal(text, &plan); err != nil {
		return nil, fmt.Errorf("%s: %w", paths[0], err)
	}
	args, err := bareArgs(plan.Launch.Args, b.kernel)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", paths[0], err)
	}
	return &bare{plan.Launch.Program, args, plan.Launch.Env, filepath.Join(b.scratch, "bare.log")}, nil
}

// bareArgs takes from QEMU's arguments what ties it to our shim: it starts at once, has no control channel, and finds
// the kernel where it is on the host.
func bareArgs(args []string, kernel string) ([]string, error) {
	var monitors []string // the character devices of control channels
	for i := range len(args) - 1 {
		if args[i] != "-mon" {
			continue
		}
		for part := range strings.SplitSeq(args[i+1], ",") {
			if name, found := strings.CutPrefix(part, "chardev="); found {
				monitors = append(monitors, "id="+name)
			}
		}
	}
	isMonitor := func(option string) bool {
		parts := strings.Split(option, ",")
		return slices.ContainsFunc(monitors, func(id string) bool { return slices.Contains(parts, id) })
	}
	var out []string
	found := false
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "-S":
		case args[i] == "-mon", args[i] == "-chardev" && i+1 < len(args) && isMonitor(args[i+1]):
			i++
		case args[i] == kernelPath:
			out, found = append(out, kernel), true
		case strings.Contains(args[i], "/guest/"), strings.Contains(args[i], "fd="):
			return nil, fmt.Errorf("%q means nothing outside our shim", args[i])
		default:
			out = append(out, args[i])
		}
	}
	if !found {
		return nil, fmt.Errorf("no argument is %s: %q", kernelPath, args)
	}
	return out, nil
}

// run executes it: how long to its first byte, and to its end.
func (m *bare) run() (first, all time.Duration, err error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return 0, 0, err
	}
	stdout := os.NewFile(uintptr(pipe[1]), "stdout")
	errors, err := os.Create(m.errors)
	if err != nil {
		return 0, 0, err
	}
	defer errors.Close()
	cmd := exec.Command(m.program, m.args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = m.env, stdout, errors
	output := readFrom(pipe[0])
	began := time.Now()
	err = cmd.Start()
	stdout.Close()
	if err == nil {
		cmd.Wait() // its exit code is the guest's, translated: what it said tells whether it ran
	}
	ended := time.Now()
	at, text := output.close()
	if err == nil && !strings.HasPrefix(text, "tiny:") {
		complaint, _ := os.ReadFile(m.errors)
		err = fmt.Errorf("it said %q: %s", text, complaint)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("the bare monitor (%s %q): %w", m.program, m.args, err)
	}
	return at.Sub(began), ended.Sub(began), nil
}
