package main

import (
	"fmt"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The same pod of three ordinary containers under both handlers: what a node notices whose default runtime is ours.

const (
	// trioGoal is what a container's life, and an ExecSync in it, may take at most, of runc's.
	trioGoal = 1.0
	// trioIdleGoal is the same of the memory of such a pod's overhead.
	trioIdleGoal = 0.3
	trioSize     = 3
	trioExecs    = 5 // in each container
	trioState    = "three ordinary containers"
)

// The names of what is measured of it. A container's are means over the three.
const (
	trioCreate = "create + start"
	trioEnd    = "stop + remove"
	trioLife   = "container's four"
	trioExec   = "ExecSync"
)

var trioNames = []string{runSandbox, trioCreate, trioEnd, trioLife, trioExec, stopSandbox, removeSandbox, sandboxAll}

// trio names the measurements of a handler's.
func trio(handler string) string { return handler + " trio" }

// ordinary is runc's container by another handler.
func (p *pods) ordinary(handler string) *podKind {
	k := p.runc
	k.name = handler
	return &k
}

// measureTrios measures both handlers by turns; who is first changes with each round.
func (p *pods) measureTrios(r *report) error {
	kinds := []*podKind{p.ordinary("urunc"), p.ordinary("runc")}
	for round := range p.trios {
		p.say("pods of three: round %d of %d", round+1, p.trios)
		for turn := range kinds {
			k := kinds[(turn+round)%len(kinds)]
			took, err := p.trioCycle(k)
			if err != nil {
				return err
			}
			// The first one warms up.
			for what, time := range took {
				if round > 0 {
					r.add(trio(k.name), what, time)
				}
			}
		}
	}
	if p.trios == 0 || p.daemons == 0 {
		return nil
	}
	for _, k := range kinds {
		if err := p.idleTriosOf(r, k); err != nil {
			return err
		}
	}
	return nil
}

// trioCycle is one such pod from RunPodSandbox to RemovePodSandbox.
func (p *pods) trioCycle(k *podKind) (map[string]time.Duration, error) {
	o := p.newPod(k, false)
	took := map[string]time.Duration{}
	p.gate.wait()
	timed := func(what string, share time.Duration, steps ...func() error) error {
		began := time.Now()
		for _, step := range steps {
			if err := step(); err != nil {
				return fmt.Errorf("%s of three, %s: %w", o.config.Metadata.Name, what, err)
			}
		}
		took[what] += time.Since(began) / share
		return nil
	}
	if err := timed(runSandbox, 1, o.run); err != nil {
		return nil, err
	}
	members := make([]string, trioSize)
	for i := range members {
		o.member = fmt.Sprintf("member%d", i)
		if err := timed(trioCreate, trioSize, o.create, o.start); err != nil {
			return nil, err
		}
		if err := o.spoke(); err != nil {
			return nil, err
		}
		members[i] = o.container
		for range trioExecs {
			if err := timed(trioExec, trioSize*trioExecs, o.execSync); err != nil {
				return nil, err
			}
		}
	}
	for _, o.container = range members {
		if err := timed(trioEnd, trioSize, o.stopContainer, o.removeContainer); err != nil {
			return nil, err
		}
	}
	if err := timed(stopSandbox, 1, o.stop); err != nil {
		return nil, err
	}
	if err := timed(removeSandbox, 1, o.remove); err != nil {
		return nil, err
	}
	took[trioLife] = took[trioCreate] + took[trioEnd]
	took[sandboxAll] = took[runSandbox] + took[stopSandbox] + took[removeSandbox]
	return took, nil
}

// execSync executes a program that ends at once.
func (o *pod) execSync() error {
	answer, err := o.p.cri.ExecSync(o.p.ctx, &cri.ExecSyncRequest{
		ContainerId: o.container, Cmd: []string{"/bin/busybox", "true"}, Timeout: 20,
	})
	if err == nil && answer.ExitCode != 0 {
		return fmt.Errorf("it ended with %d", answer.ExitCode)
	}
	return err
}

func (p *pods) idleTriosOf(r *report, k *podKind) error {
	var all []*pod
	for range p.daemons {
		p.say("idle memory: pod of three %d of %d of %s", len(all)+1, p.daemons, k.name)
		o := p.newPod(k, false)
		if err := o.run(); err != nil {
			return err
		}
		for i := range trioSize {
			o.member = fmt.Sprintf("member%d", i)
			for _, step := range []func() error{o.create, o.start, o.spoke} {
				if err := step(); err != nil {
					return err
				}
			}
		}
		all = append(all, o)
	}
	if err := p.readIdlePods(r, k, all, trioState); err != nil {
		return err
	}
	for _, o := range all {
		for _, step := range []func() error{o.stop, o.remove} {
			if err := step(); err != nil {
				return err
			}
		}
	}
	return nil
}

// deriveTrios compares with the goals.
func (r *report) deriveTrios() {
	urunc, runc := r.Measured[trio("urunc")], r.Measured[trio("runc")]
	add := func(name, unit string, urunc, runc series, scale, goal float64) {
		if len(urunc) == 0 || len(runc) == 0 {
			return
		}
		d := derived{Name: "trio: " + name, Unit: unit, Value: urunc.median() / scale, Runc: runc.median() / scale}
		d.Ratio = rounded(urunc.over(runc).median())
		d.setGoal(goal)
		r.Derived = append(r.Derived, d)
	}
	add(runSandbox, "ms", urunc[runSandbox], runc[runSandbox], 1, sandboxGoal)
	add(trioLife, "ms", urunc[trioLife], runc[trioLife], 1, trioGoal)
	add(trioExec, "ms", urunc[trioExec], runc[trioExec], 1, trioGoal)
	name := idleName(trioState, podOverhead, "Pss")
	add("idle Pss", "MB", r.Measured["urunc"][name], r.Measured["runc"][name], 1000, trioIdleGoal)
}

func (r *report) printTrios() {
	both := []string{trio("urunc"), trio("runc")}
	r.table("pod of three ordinary containers, ms", both, trioNames, "%.2f", quantile{"p90", 0.9})
}
