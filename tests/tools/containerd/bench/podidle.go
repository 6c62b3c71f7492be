package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// podStates are in which pods are measured.
var podStates = []string{"sandbox alone", "one container"}

// podParts are whose memory is told. The overhead of a pod is the first two: a container's own processes are what the
// user wants to run, with us its monitor.
var podParts = []string{podOverhead, "daemon", "holder", "container"}

const podOverhead = "daemon + holder"

// measureIdlePods reads the memory of many pods that do nothing; one handler after the other.
func (p *pods) measureIdlePods(r *report) error {
	if p.daemons == 0 {
		return nil
	}
	for _, k := range []*podKind{&p.urunc, &p.runc} {
		if err := p.idlePodsOf(r, k); err != nil {
			return err
		}
	}
	return nil
}

func (p *pods) idlePodsOf(r *report, k *podKind) error {
	var all []*pod
	for range p.daemons {
		p.say("idle memory: pod %d of %d of %s", len(all)+1, p.daemons, k.name)
		o := p.newPod(k, false)
		if err := o.run(); err != nil {
			return err
		}
		all = append(all, o)
	}
	if err := p.readIdlePods(r, k, all, podStates[0]); err != nil {
		return err
	}
	for i, o := range all {
		p.say("idle memory: container %d of %d of %s", i+1, p.daemons, k.name)
		for _, step := range []func() error{o.create, o.start, o.spoke} {
			if err := step(); err != nil {
				return err
			}
		}
	}
	if err := p.readIdlePods(r, k, all, podStates[1]); err != nil {
		return err
	}
	for i, o := range all {
		p.say("idle memory: ending pod %d of %d of %s", i+1, p.daemons, k.name)
		for _, step := range []func() error{o.stopContainer, o.stop, o.remove} {
			if err := step(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *pods) readIdlePods(r *report, k *podKind, all []*pod, state string) error {
	p.say("idle memory: %d pods of %s settle", len(all), k.name)
	select {
	case <-time.After(settle):
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
	found, err := p.findDaemons()
	if err != nil {
		return err
	}
	for _, d := range found {
		defer d.close()
	}
	for _, o := range all {
		daemon := found[o.sandbox]
		if daemon == nil {
			return fmt.Errorf("the pod %s has no daemon", o.sandbox)
		}
		sizes := map[string]map[string]float64{}
		if sizes["daemon"], err = daemon.memory(); err != nil {
			return err
		}
		if sizes["holder"], err = p.memoryIn(o.sandbox); err != nil {
			return err
		}
		if o.container != "" {
			if sizes["container"], err = p.memoryIn(o.container); err != nil {
				return err
			}
		}
		sizes[podOverhead] = map[string]float64{}
		for _, size := range podMemory {
			sizes[podOverhead][size] = sizes["daemon"][size] + sizes["holder"][size]
		}
		for part, of := range sizes {
			for _, size := range podMemory {
				r.addValue(k.name, idleName(state, part, size), of[size])
			}
		}
	}
	return nil
}

// podMemory are what is told of a pod's memory.
var podMemory = []string{"Pss", "Rss", "Private"}

func idleName(state, part, size string) string { return state + ": " + part + ", " + size }

// memoryIn sums up the processes in the cgroup of a container, or below; one at least must be there.
func (p *pods) memoryIn(id string) (map[string]float64, error) {
	var members []int
	for _, pattern := range []string{"/sys/fs/cgroup/*/%s/%s", "/sys/fs/cgroup/%s/%s"} {
		folders, err := filepath.Glob(fmt.Sprintf(pattern, p.name(), id))
		if err != nil {
			return nil, err
		}
		for _, folder := range folders {
			// Ours are in a leaf of it.
			err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
				if err != nil || !entry.IsDir() {
					return err
				}
				text, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
				for _, word := range strings.Fields(string(text)) {
					if pid, err := strconv.Atoi(word); err == nil && !slices.Contains(members, pid) {
						members = append(members, pid)
					}
				}
				return err
			})
			if err != nil {
				return nil, err
			}
		}
	}
	if len(members) == 0 {
		return nil, fmt.Errorf("nobody is in the cgroup of %s", id)
	}
	sum := map[string]float64{}
	for _, pid := range members {
		sizes, err := memoryOf(pid)
		if err != nil {
			return nil, err
		}
		for name, size := range sizes {
			sum[name] += size
		}
	}
	return sum, nil
}
