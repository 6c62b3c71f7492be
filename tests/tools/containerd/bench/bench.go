package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/api/services/tasks/v1"
	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
)

const (
	tinyImage    = "docker.io/urunc/tiny:bench"
	busyboxImage = "docker.io/urunc/busybox:bench"
)

// bench is what all measurements share.
type bench struct {
	*options
	ctx     context.Context
	client  *client.Client
	tasks   tasks.TasksClient
	version string
	urunc   kind
	runc    kind
	ids     *os.File
	count   int
	gate    gate
}

// kind is one of the two runtimes that are compared, with its guest.
type kind struct {
	name    string
	runtime string
	options any
	image   client.Image
	shim    string
	brief   []string // what says a line and ends
	idle    []string // what does nothing
	expect  string   // what that line begins with
}

func open(ctx context.Context, o *options) (*bench, error) {
	c, err := client.New(o.address(), client.WithDefaultNamespace(o.namespace()))
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, ctx: namespaces.WithNamespace(ctx, o.namespace()), client: c, tasks: c.TaskService()}
	version, err := c.Version(b.ctx)
	if err != nil {
		return nil, err
	}
	b.version = version.Version
	// run.sh finds the sockets of all shims by it, whatever happens to this program.
	if b.ids, err = os.OpenFile(filepath.Join(o.scratch, "ids"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	tiny, err := b.load(tinyImage, o.image)
	if err != nil {
		return nil, err
	}
	archive := filepath.Join(o.scratch, "busybox.tar")
	if err := writeImage(archive, busyboxImage, o.busybox, "bin/busybox"); err != nil {
		return nil, err
	}
	busybox, err := b.load(busyboxImage, archive)
	if err != nil {
		return nil, err
	}
	b.urunc = kind{
		name:    "urunc",
		runtime: "io.containerd.urunc.v2",
		image:   tiny,
		shim:    o.shim,
		brief:   []string{"tiny", "exit=0"},
		idle:    []string{"tiny", "hang"},
		expect:  "tiny:",
	}
	b.runc = kind{
		name:    "runc",
		runtime: "io.containerd.runc.v2",
		// Otherwise its state would be where every containerd of this machine has it.
		options: &runcoptions.Options{Root: filepath.Join(o.scratch, "run", "runc")},
		image:   busybox,
		shim:    filepath.Join(o.bin, "containerd-shim-runc-v2"),
		brief:   []string{"/bin/busybox", "echo", "hi"},
		idle:    []string{"/bin/busybox", "sleep", "1000"},
		expect:  "hi",
	}
	return b, nil
}

func (b *bench) close() {
	b.client.Close()
	b.ids.Close()
}

func (b *bench) load(name, archive string) (client.Image, error) {
	file, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if _, err := b.client.Import(b.ctx, file); err != nil {
		return nil, fmt.Errorf("import %s: %w", archive, err)
	}
	image, err := b.client.GetImage(b.ctx, name)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", name, err)
	}
	if err := image.Unpack(b.ctx, b.snapshotter); err != nil {
		return nil, fmt.Errorf("unpack %s: %w", name, err)
	}
	return image, nil
}

// id gives one that was never used.
func (b *bench) id(k *kind) (string, error) {
	b.count++
	id := fmt.Sprintf("%s%d", k.name, b.count)
	_, err := fmt.Fprintln(b.ids, id)
	return id, err
}

// say shows progress, where somebody looks.
func (b *bench) say(format string, args ...any) {
	if info, err := os.Stderr.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		fmt.Fprintf(os.Stderr, "\r\033[K"+format, args...)
	}
}
