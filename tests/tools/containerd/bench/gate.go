package main

import (
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	quietFor  = 150 * time.Millisecond
	quietIdle = 0.9
	patience  = 3 * time.Second
)

// gate lets a sample pass when the machine is quiet, and counts those for which it did not become so.
type gate struct {
	samples int
	noisy   int
}

// wait waits until every CPU has been idle for a while; false: it gave up, and the sample is noisy.
func (g *gate) wait() bool {
	g.samples++
	deadline := time.Now().Add(patience)
	for before := readCPUs(); time.Now().Before(deadline); {
		time.Sleep(quietFor)
		now := readCPUs()
		if quiet(before, now) {
			return true
		}
		before = now
	}
	g.noisy++
	return false
}

// cpu is what one has done since the boot, in ticks.
type cpu struct{ idle, all uint64 }

func readCPUs() []cpu {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil
	}
	var cpus []cpu
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		// "cpu" alone is their sum.
		if len(fields) < 9 || !strings.HasPrefix(fields[0], "cpu") || fields[0] == "cpu" {
			continue
		}
		var c cpu
		// user nice system idle iowait irq softirq steal; the guests' time is in user already
		for i, field := range fields[1:9] {
			ticks, _ := strconv.ParseUint(field, 10, 64)
			c.all += ticks
			if i == 3 || i == 4 {
				c.idle += ticks
			}
		}
		cpus = append(cpus, c)
	}
	return cpus
}

func quiet(before, now []cpu) bool {
	if len(now) == 0 || len(before) != len(now) {
		return false
	}
	for i := range now {
		all := now[i].all - before[i].all
		if all == 0 || float64(now[i].idle-before[i].idle) < quietIdle*float64(all) {
			return false
		}
	}
	return true
}
