package main

import (
	"fmt"
	"time"
)

// settle is how long a daemon is left alone before its memory is read: its threads for blocking work are gone then.
const settle = 6 * time.Second

// memoryKinds are what is told of a daemon's memory.
var memoryKinds = []string{"Rss", "Pss", "Private_Dirty"}

// measureIdle reads the memory of many daemons, each with one guest that does nothing; one shim after the other.
func (b *bench) measureIdle(r *report) error {
	if b.daemons == 0 {
		return nil
	}
	for _, k := range []*kind{&b.urunc, &b.runc} {
		if err := b.idleOf(r, k); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) idleOf(r *report, k *kind) error {
	var all []*container
	defer func() {
		b.say("idle memory: ending %d daemons of %s", len(all), k.name)
		for _, c := range all {
			c.end()
			c.remove()
		}
	}()
	for range b.daemons {
		b.say("idle memory: daemon %d of %d of %s", len(all)+1, b.daemons, k.name)
		c, err := b.newContainer(k, k.idle)
		if err != nil {
			return err
		}
		all = append(all, c)
		if err := c.start(); err != nil {
			return err
		}
	}
	b.say("idle memory: %d daemons of %s settle", len(all), k.name)
	select {
	case <-time.After(settle):
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
	found, err := b.findDaemons()
	if err != nil {
		return err
	}
	for _, c := range all {
		daemon := found[c.id]
		if daemon == nil {
			return fmt.Errorf("%s has no daemon", c.id)
		}
		defer daemon.close()
		sizes, err := daemon.memory()
		if err != nil {
			return err
		}
		for _, name := range memoryKinds {
			r.addValue(k.name, name, sizes[name])
		}
	}
	return nil
}
