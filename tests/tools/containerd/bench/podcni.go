package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/pkg/netns"
	"github.com/containerd/go-cni"
)

const (
	cniAdd = "netns and ADD"
	cniDel = "DEL and netns"
)

// podCNI is what containerd does for a pod's network, without a pod.
type podCNI struct {
	p   *pods
	cni cni.CNI
}

func (p *pods) openCNI() (*podCNI, error) {
	library, err := cni.New(cni.WithMinNetworkCount(2), cni.WithPluginConfDir(filepath.Join(p.scratch, "net.d")),
		cni.WithPluginDir([]string{p.plugins}), cni.WithInterfacePrefix("eth"))
	if err == nil {
		err = library.Load(cni.WithLoNetwork, cni.WithDefaultConf)
	}
	if err != nil {
		return nil, fmt.Errorf("CNI: %w", err)
	}
	return &podCNI{p, library}, nil
}

// cycle makes a network namespace with a network, and removes both.
func (c *podCNI) cycle() (add, del time.Duration, err error) {
	c.p.count++
	id := fmt.Sprintf("cni%d", c.p.count)
	began := time.Now()
	ns, err := netns.NewNetNS(filepath.Join(c.p.scratch, "run", "netns"))
	if err != nil {
		return 0, 0, fmt.Errorf("network namespace: %w", err)
	}
	_, err = c.cni.Setup(c.p.ctx, id, ns.GetPath())
	added := time.Now()
	if err != nil {
		ns.Remove()
		return 0, 0, fmt.Errorf("CNI's ADD: %w", err)
	}
	err = c.cni.Remove(c.p.ctx, id, ns.GetPath())
	if failed := ns.Remove(); err == nil {
		err = failed
	}
	ended := time.Now()
	if err != nil {
		return 0, 0, fmt.Errorf("CNI's DEL: %w", err)
	}
	return added.Sub(began), ended.Sub(added), nil
}
