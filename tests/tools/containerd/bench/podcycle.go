package main

import (
	"fmt"
	"strings"
	"time"
)

// The names of what is measured of a pod's life.
const (
	runSandbox    = "RunPodSandbox"
	stopSandbox   = "StopPodSandbox"
	removeSandbox = "RemovePodSandbox"
	firstLog      = "first line in log" // from the call of RunPodSandbox
	sandboxAll    = "sandbox's three"
)

// podSteps are the steps of a pod's life in the order of a kubelet. What is nothing but waiting is not measured.
var podSteps = []struct {
	name string
	do   func(*pod) error
}{
	{runSandbox, (*pod).run},
	{"CreateContainer", (*pod).create},
	{"StartContainer", (*pod).start},
	{"", (*pod).spoke},
	{"StopContainer", (*pod).stopContainer},
	{stopSandbox, (*pod).stop},
	{"RemoveContainer", (*pod).removeContainer},
	{removeSandbox, (*pod).remove},
}

// podCycle is one pod from RunPodSandbox to RemovePodSandbox.
type podCycle struct {
	began time.Time
	marks []mark // when each measured step began and ended
	took  map[string]time.Duration
}

func (p *pods) cycle(k *podKind, hostNetwork bool) (*podCycle, error) {
	o := p.newPod(k, hostNetwork)
	p.gate.wait()
	done := &podCycle{began: time.Now(), took: map[string]time.Duration{}}
	for _, step := range podSteps {
		began := time.Now()
		if err := step.do(o); err != nil {
			return nil, fmt.Errorf("%s, %s: %w", o.config.Metadata.Name, step.name, err)
		}
		ended := time.Now()
		if step.name == "" {
			done.took[firstLog] = ended.Sub(done.began)
			done.marks = append(done.marks, mark{ended.Round(0), "client: the first line is in the log"})
			continue
		}
		done.took[step.name] = ended.Sub(began)
		done.marks = append(done.marks, mark{began.Round(0), "client: " + step.name + " is called"},
			mark{ended.Round(0), "client: " + step.name + " is answered"})
	}
	done.took[sandboxAll] = done.took[runSandbox] + done.took[stopSandbox] + done.took[removeSandbox]
	return done, nil
}

// saidIn looks for what was said behind the time and the stream of a line of the log.
func saidIn(log, expect string) error {
	fields := strings.SplitN(log, " ", 4)
	if len(fields) < 4 || !strings.HasPrefix(fields[3], expect) {
		return fmt.Errorf("the log says %q instead of %q", log, expect)
	}
	return nil
}

// withHost names the kind of pods that share the host's network.
func withHost(name string) string { return name + " host" }

// measurePods measures pods of both handlers, in a network of their own and in the host's, and CNI without a pod, by
// turns; who is first changes with each round.
func (p *pods) measurePods(r *report) error {
	if p.rounds == 0 {
		return nil
	}
	cni, err := p.openCNI()
	if err != nil {
		return err
	}
	of := func(k *podKind, hostNetwork bool) func(bool) error {
		name := k.name
		if hostNetwork {
			name = withHost(name)
		}
		return func(counts bool) error {
			done, err := p.cycle(k, hostNetwork)
			if err != nil {
				return err
			}
			if counts {
				for step, took := range done.took {
					r.add(name, step, took)
				}
			}
			return nil
		}
	}
	turns := []func(counts bool) error{
		of(&p.urunc, false),
		of(&p.runc, false),
		of(&p.urunc, true),
		of(&p.runc, true),
		func(counts bool) error {
			p.gate.wait()
			add, del, err := cni.cycle()
			if err == nil && counts {
				r.add("CNI", cniAdd, add)
				r.add("CNI", cniDel, del)
			}
			return err
		},
	}
	for round := range p.warmup + p.rounds {
		p.say("pods: round %d of %d", round+1, p.warmup+p.rounds)
		for turn := range turns {
			if err := turns[(turn+round)%len(turns)](round >= p.warmup); err != nil {
				return err
			}
		}
	}
	return nil
}

// timelinePod prints what happened in one pod of ours: what the client saw, and the log.
func (p *pods) timelinePod() error {
	var done *podCycle
	for range p.warmup + 1 {
		var err error
		if done, err = p.cycle(&p.urunc, p.host); err != nil {
			return err
		}
	}
	return p.printTimeline(done.began, done.marks, anyLine)
}
