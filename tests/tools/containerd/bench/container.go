package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/oci"
	"golang.org/x/sys/unix"
)

// container is a record and a snapshot in containerd; the task of it is what is measured.
type container struct {
	b       *bench
	id      string
	record  client.Container
	console *console
	stderr  *os.File
	fifos   string // a folder
	create  *tasks.CreateTaskRequest
}

func (b *bench) newContainer(k *kind, args []string) (*container, error) {
	id, err := b.id(k)
	if err != nil {
		return nil, err
	}
	record, err := b.client.NewContainer(b.ctx, id,
		client.WithImage(k.image),
		client.WithSnapshotter(b.snapshotter),
		client.WithNewSnapshot(id, k.image),
		client.WithNewSpec(oci.WithProcessArgs(args...), oci.WithDefaultPathEnv),
		client.WithRuntime(k.runtime, k.options))
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", id, err)
	}
	c := &container{b: b, id: id, record: record, fifos: filepath.Join(b.scratch, "run", "fifos", id)}
	mounts, err := b.client.SnapshotService(b.snapshotter).Mounts(b.ctx, id)
	if err == nil {
		err = c.openStdio()
	}
	if err != nil {
		c.remove()
		return nil, fmt.Errorf("container %s: %w", id, err)
	}
	c.create = &tasks.CreateTaskRequest{ContainerID: id, Stdout: c.path("stdout"), Stderr: c.path("stderr")}
	for _, m := range mounts {
		c.create.Rootfs = append(c.create.Rootfs,
			&types.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	return c, nil
}

func (c *container) path(fifo string) string { return filepath.Join(c.fifos, fifo) }

func (c *container) openStdio() (err error) {
	if err := os.MkdirAll(c.fifos, 0o700); err != nil {
		return err
	}
	if c.console, err = openFIFO(c.path("stdout")); err != nil {
		return err
	}
	// Nobody says anything there, but the runc shim wants it.
	if err := unix.Mkfifo(c.path("stderr"), 0o600); err != nil {
		return err
	}
	c.stderr, err = os.OpenFile(c.path("stderr"), os.O_RDWR|unix.O_NONBLOCK, 0)
	return err
}

// start creates and starts the task.
func (c *container) start() error {
	if _, err := c.b.tasks.Create(c.b.ctx, c.create); err != nil {
		return fmt.Errorf("create %s: %w", c.id, err)
	}
	if _, err := c.b.tasks.Start(c.b.ctx, &tasks.StartRequest{ContainerID: c.id}); err != nil {
		return fmt.Errorf("start %s: %w", c.id, err)
	}
	return nil
}

// end kills and deletes the task, if there still is one.
func (c *container) end() {
	ctx, cancel := context.WithTimeout(c.b.ctx, 20*time.Second)
	defer cancel()
	// Whichever of them fails, the next one is worth a try: run.sh looks whether anything is left.
	c.b.tasks.Kill(ctx, &tasks.KillRequest{ContainerID: c.id, Signal: uint32(unix.SIGKILL), All: true})
	c.b.tasks.Wait(ctx, &tasks.WaitRequest{ContainerID: c.id})
	c.b.tasks.Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: c.id})
}

// remove removes the record, the snapshot and the FIFOs; when the first byte came and what was said.
func (c *container) remove() (first time.Time, text string) {
	if c.console != nil {
		first, text = c.console.close()
	}
	c.stderr.Close() // says no more than EINVAL where there is none
	os.RemoveAll(c.fifos)
	// After an interrupt run.sh does it.
	if err := c.record.Delete(c.b.ctx, client.WithSnapshotCleanup); err != nil && c.b.ctx.Err() == nil {
		fmt.Fprintf(os.Stderr, "bench: remove container %s: %v\n", c.id, err)
	}
	return first, text
}
