package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// logLine is a line of our shim in containerd's log; its times have nanoseconds, containerd's own have not.
var logLine = regexp.MustCompile(`^time="([^"]+)" level=(\w+) msg=(.*) runtime=urunc$`)

// anyLine is that, or one of containerd's own.
var anyLine = regexp.MustCompile(`^time="([^"]+)" level=(\w+) msg=(.*)$`)

// mark is a moment of a timeline.
type mark struct {
	at   time.Time
	text string
}

// timeline prints what happened in one container of ours: what the client saw, and our shim's log lines.
func (b *bench) timeline() error {
	var done *cycle
	for range b.warmup + 1 {
		var err error
		if done, err = b.cycle(&b.urunc); err != nil {
			return err
		}
	}
	marks := []mark{{done.began.Round(0), "client: create is called"}, {done.first.Round(0), "client: the first byte"}}
	for i, ended := range done.ended {
		marks = append(marks, mark{ended.Round(0), "client: " + steps[i] + " is answered"})
	}
	return b.printTimeline(done.began, marks, logLine)
}

// printTimeline puts the lines of the log between the marks.
func (b *bench) printTimeline(began time.Time, marks []mark, lines *regexp.Regexp) error {
	began = began.Round(0) // without the monotonic reading, which the log has not either
	// What the daemon says at its very end.
	time.Sleep(200 * time.Millisecond)
	text, err := os.ReadFile(filepath.Join(b.scratch, "containerd.log"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		found := lines.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if found == nil {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, found[1])
		if err == nil && !at.Before(began) {
			who, text := "  containerd: ", found[3]
			if said, ours := strings.CutSuffix(text, " runtime=urunc"); ours || lines == logLine {
				who, text = "  shim: ", said
			}
			// containerd tells whole specs.
			marks = append(marks, mark{at, who + strings.ToValidUTF8(text[:min(len(text), 200)], "")})
		}
	}
	slices.SortStableFunc(marks, func(a, b mark) int { return a.at.Compare(b.at) })
	b.say("")
	before := began
	fmt.Printf("%9s%9s\n", "ms", "later")
	for _, m := range marks {
		fmt.Printf("%9.2f%9.2f  %s\n", m.at.Sub(began).Seconds()*1000, m.at.Sub(before).Seconds()*1000, m.text)
		before = m.at
	}
	return nil
}
