package main

import "fmt"

// sandboxGoal is what the operations of a sandbox may take at most, of runc's.
const sandboxGoal = 0.6

// derivePods compares with the goal.
func (r *report) derivePods() {
	cni := r.Measured["CNI"]
	for _, network := range []struct {
		name string
		of   func(string) string
	}{{"", func(name string) string { return name }}, {"host: ", withHost}} {
		urunc, runc := r.Measured[network.of("urunc")], r.Measured[network.of("runc")]
		add := func(name string, urunc, runc series, goal float64) {
			d := derived{Name: name, Unit: "ms", Value: urunc.median(), Runc: runc.median()}
			d.Ratio = rounded(urunc.over(runc).median())
			d.setGoal(goal)
			r.Derived = append(r.Derived, d)
		}
		if len(urunc[sandboxAll]) == 0 {
			continue
		}
		for _, what := range []string{runSandbox, stopSandbox, removeSandbox} {
			add(network.name+what, urunc[what], runc[what], 0)
		}
		add(network.name+sandboxAll, urunc[sandboxAll], runc[sandboxAll], sandboxGoal)
		if network.name == "" {
			both := func(s series) series { return s.minus(cni[cniAdd]).minus(cni[cniDel]) }
			add(sandboxAll+", no CNI", both(urunc[sandboxAll]), both(runc[sandboxAll]), sandboxGoal)
		}
	}
	for _, state := range podStates {
		name := idleName(state, podOverhead, "Pss")
		urunc, runc := r.Measured["urunc"][name], r.Measured["runc"][name]
		if len(urunc) > 0 {
			r.Derived = append(r.Derived, derived{Name: "idle Pss, " + state, Unit: "MB", Value: urunc.median() / 1000,
				Runc: runc.median() / 1000})
		}
	}
	r.compare()
}

func (d *derived) setGoal(factor float64) {
	if factor == 0 {
		return
	}
	d.Goal = factor * d.Runc
	d.Wanted = fmt.Sprintf("<= %g x runc's: %.1f %s", factor, d.Goal, d.Unit)
}

func (r *report) printPods() {
	r.heading()
	var names []string
	for _, step := range podSteps {
		if step.name == "" {
			names = append(names, firstLog)
			continue
		}
		names = append(names, step.name)
	}
	names = append(names, sandboxAll)
	last, both := quantile{"p90", 0.9}, []string{"urunc", "runc"}
	r.table("pod with a network, ms", both, names, "%.2f", last)
	r.table("CNI without a pod, ms", []string{"CNI"}, []string{cniAdd, cniDel}, "%.2f", last)
	r.table("pod in the host's network, ms", []string{withHost("urunc"), withHost("runc")}, names, "%.2f", last)
	r.printTrios()
	for _, state := range append(podStates, trioState) {
		names = nil
		for _, part := range podParts {
			for _, size := range podMemory {
				names = append(names, idleName(state, part, size))
			}
		}
		r.table("idle pods, kB: "+state, both, names, "%.0f", last)
	}
	r.goals()
	r.printShare()
}

// printShare says which part of a sandbox's start and end is its network's.
func (r *report) printShare() {
	cni := r.Measured["CNI"]
	if len(cni[cniAdd]) == 0 {
		return
	}
	fmt.Printf("\nCNI's share, medians     %12s%12s%12s%12s\n", "pod", "in host's", "difference", "CNI alone")
	for _, step := range []struct{ sandbox, alone string }{{runSandbox, cniAdd}, {stopSandbox, cniDel}} {
		what, alone := step.sandbox, cni[step.alone]
		for _, name := range []string{"urunc", "runc"} {
			of, host := r.Measured[name][what], r.Measured[withHost(name)][what]
			fmt.Printf("  %-15s%-8s%9.2f ms%9.2f ms%9.2f ms%9.2f ms = %.0f %%\n", what, name, of.median(), host.median(),
				of.minus(host).median(), alone.median(), 100*alone.median()/of.median())
		}
	}
}
