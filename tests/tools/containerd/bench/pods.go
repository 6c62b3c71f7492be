package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const pauseImage = "docker.io/urunc/pause:bench"

// pods is what the measurements of pods share.
type pods struct {
	*bench
	cri   cri.RuntimeServiceClient
	conn  *grpc.ClientConn
	urunc podKind
	runc  podKind
}

// podKind is one of the two handlers that are compared, with what its containers do.
type podKind struct {
	name    string // the handler's
	image   string
	command []string
	expect  string // what it says when it runs; then it does nothing
}

func (b *bench) openPods() (*pods, error) {
	conn, err := grpc.NewClient("unix://"+b.address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	p := &pods{
		bench: b,
		conn:  conn,
		cri:   cri.NewRuntimeServiceClient(conn),
		urunc: podKind{"urunc", tinyImage, b.urunc.idle, b.urunc.expect},
		runc: podKind{"runc", busyboxImage,
			[]string{"/bin/busybox", "sh", "-c", "echo hi; exec /bin/busybox sleep 1000"}, b.runc.expect},
	}
	archive := filepath.Join(b.scratch, "pause.tar")
	if err := writeImage(archive, pauseImage, b.pause, "bin/pause"); err != nil {
		return nil, err
	}
	if _, err := b.load(pauseImage, archive); err != nil {
		return nil, err
	}
	return p, p.ready()
}

// ready waits until CRI knows the images: it hears of them by events.
func (p *pods) ready() error {
	images := cri.NewImageServiceClient(p.conn)
	for _, name := range []string{pauseImage, tinyImage, busyboxImage} {
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			answer, err := images.ImageStatus(p.ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: name}})
			if err == nil && answer.Image != nil {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("CRI does not know %s: %v", name, err)
			}
		}
	}
	return nil
}

// close takes down all pods that are left, even after an interrupt.
func (p *pods) close() error {
	defer p.conn.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), 30*time.Second)
	defer cancel()
	left, err := p.cri.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		return fmt.Errorf("list the pods: %w", err)
	}
	for _, sandbox := range left.Items {
		_, stopped := p.cri.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: sandbox.Id})
		_, removed := p.cri.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: sandbox.Id})
		err = errors.Join(err, stopped, removed)
	}
	return err
}

// pod is a pod; what is done with a container is done with the last one.
type pod struct {
	p         *pods
	k         *podKind
	config    *cri.PodSandboxConfig
	sandbox   string
	container string
	member    string // the container's name
}

func (p *pods) newPod(k *podKind, hostNetwork bool) *pod {
	p.count++
	name := fmt.Sprintf("%s%d", k.name, p.count)
	namespaces := &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}
	config := &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Namespace: p.name(), Uid: p.name() + "-" + name},
		Hostname:     name,
		LogDirectory: filepath.Join(p.scratch, "run", "logs", name),
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent:    "/" + p.name(),
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: namespaces},
		},
	}
	if hostNetwork {
		// Such a pod has the host's name.
		namespaces.Network, config.Hostname = cri.NamespaceMode_NODE, ""
	}
	return &pod{p: p, k: k, config: config, member: "main"}
}

func (o *pod) run() error {
	answer, err := o.p.cri.RunPodSandbox(o.p.ctx, &cri.RunPodSandboxRequest{Config: o.config, RuntimeHandler: o.k.name})
	if err != nil {
		return err
	}
	o.sandbox = answer.PodSandboxId
	// run.sh finds the sockets of all shims by it.
	_, err = fmt.Fprintln(o.p.ids, o.sandbox)
	return err
}

func (o *pod) create() error {
	answer, err := o.p.cri.CreateContainer(o.p.ctx, &cri.CreateContainerRequest{
		PodSandboxId:  o.sandbox,
		SandboxConfig: o.config,
		Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: o.member},
			Image:    &cri.ImageSpec{Image: o.k.image},
			Command:  o.k.command,
			LogPath:  o.member + ".log",
			Linux: &cri.LinuxContainerConfig{
				Resources: &cri.LinuxContainerResources{},
				SecurityContext: &cri.LinuxContainerSecurityContext{
					NamespaceOptions: o.config.Linux.SecurityContext.NamespaceOptions,
				},
			},
		},
	})
	o.container = answer.GetContainerId()
	return err
}

func (o *pod) start() error {
	_, err := o.p.cri.StartContainer(o.p.ctx, &cri.StartContainerRequest{ContainerId: o.container})
	return err
}

// stopContainer kills it: what a guest does with a request to end is not what is measured.
func (o *pod) stopContainer() error {
	_, err := o.p.cri.StopContainer(o.p.ctx, &cri.StopContainerRequest{ContainerId: o.container})
	return err
}

func (o *pod) removeContainer() error {
	_, err := o.p.cri.RemoveContainer(o.p.ctx, &cri.RemoveContainerRequest{ContainerId: o.container})
	return err
}

func (o *pod) stop() error {
	_, err := o.p.cri.StopPodSandbox(o.p.ctx, &cri.StopPodSandboxRequest{PodSandboxId: o.sandbox})
	return err
}

func (o *pod) remove() error {
	_, err := o.p.cri.RemovePodSandbox(o.p.ctx, &cri.RemovePodSandboxRequest{PodSandboxId: o.sandbox})
	os.RemoveAll(o.config.LogDirectory)
	return err
}

// spoke waits until its container has said something.
func (o *pod) spoke() error {
	path := filepath.Join(o.config.LogDirectory, o.member+".log")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(500 * time.Microsecond) {
		text, err := os.ReadFile(path)
		if err == nil && len(text) > 0 {
			return saidIn(string(text), o.k.expect)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the container said nothing: %v", err)
		}
	}
}
