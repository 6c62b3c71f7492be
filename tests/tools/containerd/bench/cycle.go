package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
)

// The names of what is measured of a cycle.
const (
	firstByte = "first byte"
	whole     = "whole"
)

// steps are the parts of a whole cycle, in order.
var steps = []string{"create", "start", "wait", "delete"}

// cycle is one container from Create to Delete: when each step was over, from the call of Create.
type cycle struct {
	began time.Time
	ended []time.Time // of each of the steps
	first time.Time
}

func (b *bench) cycle(k *kind) (*cycle, error) {
	c, err := b.newContainer(k, k.brief)
	if err != nil {
		return nil, err
	}
	done, err := c.cycle()
	if err != nil {
		c.end()
	}
	first, text := c.remove()
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(text, k.expect) {
		return nil, fmt.Errorf("%s: it said %q instead of %q", c.id, text, k.expect)
	}
	done.first = first
	return done, nil
}

func (c *container) cycle() (*cycle, error) {
	c.b.gate.wait()
	done := &cycle{began: time.Now()}
	for i, step := range []func() (uint32, error){
		func() (uint32, error) {
			_, err := c.b.tasks.Create(c.b.ctx, c.create)
			return 0, err
		},
		func() (uint32, error) {
			_, err := c.b.tasks.Start(c.b.ctx, &tasks.StartRequest{ContainerID: c.id})
			return 0, err
		},
		func() (uint32, error) {
			r, err := c.b.tasks.Wait(c.b.ctx, &tasks.WaitRequest{ContainerID: c.id})
			return r.GetExitStatus(), err
		},
		func() (uint32, error) {
			r, err := c.b.tasks.Delete(c.b.ctx, &tasks.DeleteTaskRequest{ContainerID: c.id})
			return r.GetExitStatus(), err
		},
	} {
		status, err := step()
		done.ended = append(done.ended, time.Now())
		if err == nil && status != 0 {
			err = fmt.Errorf("exit status %d", status)
		}
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", steps[i], c.id, err)
		}
	}
	return done, nil
}

// measureCycles measures both kinds and the bare monitor by turns; who is first changes with each round.
func (b *bench) measureCycles(r *report) error {
	if b.rounds == 0 {
		return nil
	}
	bare, err := b.bareMonitor()
	if err != nil {
		return err
	}
	for _, arg := range append([]string{bare.program}, bare.args...) {
		if arg == b.kernel {
			arg = kernelPath
		}
		r.Bare = append(r.Bare, arg)
	}
	kindOf := func(k *kind) func(bool) error {
		return func(counts bool) error {
			done, err := b.cycle(k)
			if err == nil && counts {
				r.addCycle(k, done)
			}
			return err
		}
	}
	turns := []func(counts bool) error{
		kindOf(&b.urunc),
		kindOf(&b.runc),
		func(counts bool) error {
			b.gate.wait()
			first, all, err := bare.run()
			if err == nil && counts {
				r.add("bare", firstByte, first)
				r.add("bare", whole, all)
			}
			return err
		},
	}
	for round := range b.warmup + b.rounds {
		b.say("create, start, wait, delete: round %d of %d", round+1, b.warmup+b.rounds)
		for turn := range turns {
			if err := turns[(turn+round)%len(turns)](round >= b.warmup); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *report) addCycle(k *kind, done *cycle) {
	r.add(k.name, firstByte, done.first.Sub(done.began))
	before := done.began
	for i, ended := range done.ended {
		r.add(k.name, steps[i], ended.Sub(before))
		before = ended
	}
	r.add(k.name, whole, before.Sub(done.began))
}
