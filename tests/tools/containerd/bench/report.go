package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// report is what came out: milliseconds and kB.
type report struct {
	When     string                       `json:"when"`
	Commit   string                       `json:"commit"`
	Machine  string                       `json:"machine"`
	Versions map[string]string            `json:"versions"`
	Rounds   int                          `json:"rounds"`
	Warmup   int                          `json:"warmup"`
	Bare     []string                     `json:"bare"`
	Measured map[string]map[string]series `json:"measured"`
	Derived  []derived                    `json:"derived"`
	Samples  int                          `json:"samples"`
	Noisy    int                          `json:"noisy"`
	gate     *gate
}

// derived is a number that has a goal.
type derived struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit"`
	Value  float64 `json:"value"`
	Runc   float64 `json:"runc"`   // the same of runc; where bare is subtracted, runc's own, whole
	Factor float64 `json:"factor"` // of runc's
	Goal   float64 `json:"goal"`   // at most
	Wanted string  `json:"wanted"`
	Met    bool    `json:"met"`
	Paired float64 `json:"paired,omitempty"` // the median of the differences round by round
	Ratio  float64 `json:"ratio,omitempty"`  // the median of the factors round by round
}

func (b *bench) newReport() *report {
	return &report{
		When:    time.Now().UTC().Format(time.RFC3339),
		Commit:  b.commit,
		Machine: machine(),
		Versions: map[string]string{
			"containerd": b.version,
			"runc":       firstLine(filepath.Join(b.bin, "runc"), "--version"),
			"qemu":       firstLine("qemu-system-x86_64", "--version"),
		},
		Rounds:   b.rounds,
		Warmup:   b.warmup,
		Measured: map[string]map[string]series{},
		gate:     &b.gate,
	}
}

func machine() string {
	model := "unknown CPU"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	var host unix.Utsname
	unix.Uname(&host)
	return fmt.Sprintf("%d x %s, Linux %s", runtime.NumCPU(), model, unix.ByteSliceToString(host.Release[:]))
}

func firstLine(program string, args ...string) string {
	text, err := exec.Command(program, args...).Output()
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

func (r *report) add(who, what string, took time.Duration) {
	r.addValue(who, what, float64(took)/float64(time.Millisecond))
}

func (r *report) addValue(who, what string, value float64) {
	if r.Measured[who] == nil {
		r.Measured[who] = map[string]series{}
	}
	r.Measured[who][what] = append(r.Measured[who][what], value)
}

// derive compares with the goals.
func (r *report) derive() {
	urunc, runc, bare := r.Measured["urunc"], r.Measured["runc"], r.Measured["bare"]
	plain := func(name, what, unit string, per, goal float64) {
		if len(urunc[what]) == 0 {
			return
		}
		d := derived{Name: name, Unit: unit, Value: urunc[what].median() / per, Runc: runc[what].median() / per}
		d.Goal, d.Wanted = goal, fmt.Sprintf("<= %g %s", goal, unit)
		r.Derived = append(r.Derived, d)
	}
	plain("start, p50", startName, "ms", 1, 6)
	plain("idle Pss", "Pss", "MB", 1000, 0.7)
	plain("idle Rss", "Rss", "MB", 1000, 6)
	minusBare := func(what string, factor float64) {
		if len(urunc[what]) == 0 {
			return
		}
		d := derived{Name: what + " minus bare", Unit: "ms", Runc: runc[what].median()}
		d.Value = urunc[what].median() - bare[what].median()
		d.Paired = rounded(urunc[what].minus(bare[what]).median())
		d.Goal = factor * d.Runc
		d.Wanted = fmt.Sprintf("<= %g x runc's: %.1f ms", factor, d.Goal)
		r.Derived = append(r.Derived, d)
	}
	minusBare(firstByte, 0.35)
	minusBare(whole, 0.4)
	r.compare()
}

// compare judges what was derived.
func (r *report) compare() {
	r.Samples, r.Noisy = r.gate.samples, r.gate.noisy
	for i := range r.Derived {
		d := &r.Derived[i]
		d.Met = d.Value <= d.Goal
		d.Factor = rounded(d.Value / d.Runc)
		d.Value, d.Runc, d.Goal = rounded(d.Value), rounded(d.Runc), rounded(d.Goal)
	}
}

func (r *report) printJSON() error {
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(r)
}

func (r *report) heading() {
	fmt.Printf("%s, commit %s\n%s\ncontainerd %s, %s, %s\n", r.When, r.Commit, r.Machine,
		r.Versions["containerd"], r.Versions["runc"], r.Versions["qemu"])
	fmt.Printf("%d rounds after %d to warm up; %d of %d samples noisy (a CPU was less than %.0f %% idle before them)\n",
		r.Rounds, r.Warmup, r.Noisy, r.Samples, 100*quietIdle)
}

func (r *report) print() {
	r.heading()
	fmt.Printf("bare: %s\n", strings.Join(r.Bare, " "))

	last := quantile{"p95", 0.95}
	r.table("start of the shim, ms", []string{"urunc", "runc"}, []string{startName}, "%.2f", last)
	r.table("create to delete, ms", []string{"urunc", "runc", "bare"},
		append([]string{firstByte, whole}, steps...), "%.2f", last)
	r.table("idle daemon, kB", []string{"urunc", "runc"}, memoryKinds, "%.0f", last)
	r.goals()
}

func (r *report) goals() {
	if 2*r.Noisy > r.Samples {
		fmt.Println("\nmost samples are noisy: the times below and above say little, do it again")
	}
	fmt.Printf("\n%-24s%12s%12s%12s  %s\n", "against the goals", "urunc", "runc", "factor", "goal")
	for _, d := range r.Derived {
		verdict := d.Wanted + ": missed"
		switch {
		case d.Wanted == "":
			verdict = "-"
		case d.Met:
			verdict = d.Wanted + ": met"
		}
		if d.Paired != 0 {
			verdict += fmt.Sprintf(" (round by round: %.2f %s)", d.Paired, d.Unit)
		}
		if d.Ratio != 0 {
			verdict += fmt.Sprintf(" (round by round: %.2f)", d.Ratio)
		}
		fmt.Printf("  %-22s%12s%12s%12.2f  %s\n", d.Name, fmt.Sprintf("%.2f %s", d.Value, d.Unit),
			fmt.Sprintf("%.2f %s", d.Runc, d.Unit), d.Factor, verdict)
	}
}

// quantile is what the last column of a table shows.
type quantile struct {
	name string
	at   float64
}

// label is what a table shows of a name: its title says the rest.
func label(name string) string {
	_, after, found := strings.Cut(name, ": ")
	if found {
		return after
	}
	return name
}

// table prints each thing for all who have it, one line each.
func (r *report) table(title string, who, what []string, format string, last quantile) {
	if len(r.Measured[who[0]][what[0]]) == 0 {
		return
	}
	wide := 10
	for _, name := range what {
		wide = max(wide, len(label(name))+1)
	}
	wide = max(wide, len(title)-14+1)
	fmt.Printf("\n%-*s%12s%12s%12s%6s\n", wide+14, title, "min", "median", last.name, "n")
	for _, name := range what {
		for _, w := range who {
			s := r.Measured[w][name]
			if len(s) == 0 {
				continue
			}
			fmt.Printf("  %-*s%-12s", wide, label(name), w)
			for _, value := range []float64{s.at(0), s.median(), s.at(last.at)} {
				fmt.Printf("%12s", fmt.Sprintf(format, value))
			}
			fmt.Printf("%6d\n", len(s))
		}
	}
}
