package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	bootstrap "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	taskv2 "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

const startName = "start exec"

// address is found in an answer whatever its form: plain, JSON or a protobuf message.
var address = regexp.MustCompile(`unix://([^"\x00-\x1f]+)`)

// measureStart executes `start` of both shims by turns, as containerd does it.
func (b *bench) measureStart(r *report) error {
	if b.starts == 0 {
		return nil
	}
	kinds := []*kind{&b.urunc, &b.runc}
	for round := range b.warmup + b.starts {
		b.say("start: %d of %d", round+1, b.warmup+b.starts)
		for turn := range kinds {
			k := kinds[(turn+round)%len(kinds)]
			took, err := b.start(k)
			if err != nil {
				return fmt.Errorf("start of %s: %w", k.shim, err)
			}
			if round >= b.warmup {
				r.add(k.name, startName, took)
			}
		}
	}
	return nil
}

func (b *bench) start(k *kind) (time.Duration, error) {
	id, err := b.id(k)
	if err != nil {
		return 0, err
	}
	bundle := filepath.Join(b.scratch, "run", "bundles", id)
	log, err := b.writeBundle(bundle, id, k)
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(bundle)
	defer log.Close()
	cmd, err := b.startCommand(bundle, id, k)
	if err != nil {
		return 0, err
	}

	b.gate.wait()
	began := time.Now()
	answer, err := cmd.CombinedOutput()
	took := time.Since(began)

	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, answer)
	}
	found := address.FindSubmatch(answer)
	if found == nil {
		return 0, fmt.Errorf("it answers %q", answer)
	}
	return took, b.endDaemon(id, k, string(found[1]))
}

// writeBundle makes what containerd makes before `start`; the reading end of the log is kept open as it does.
func (b *bench) writeBundle(bundle, id string, k *kind) (*os.File, error) {
	if err := os.MkdirAll(filepath.Join(bundle, "rootfs"), 0o700); err != nil {
		return nil, err
	}
	spec, err := oci.GenerateSpec(b.ctx, b.client, &containers.Container{ID: id},
		oci.WithProcessArgs(k.idle...), oci.WithDefaultPathEnv)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), text, 0o600); err != nil {
		return nil, err
	}
	log := filepath.Join(bundle, "log")
	if err := unix.Mkfifo(log, 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(log, os.O_RDWR|unix.O_NONBLOCK, 0)
}

func (b *bench) startCommand(bundle, id string, k *kind) (*exec.Cmd, error) {
	containerd := filepath.Join(b.bin, "containerd")
	cmd := exec.Command(k.shim, "-namespace", b.namespace(), "-address", b.address(),
		"-publish-binary", containerd, "-id", id, "start")
	cmd.Dir = bundle
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2", "TTRPC_ADDRESS="+b.address()+".ttrpc")
	if !b.bootstraps() {
		return cmd, nil
	}
	cmd.Env = append(cmd.Env, "MAX_SHIM_VERSION=2", "GRPC_ADDRESS="+b.address(), "NAMESPACE="+b.namespace())
	params, err := proto.Marshal(&bootstrap.BootstrapParams{
		InstanceID:             id,
		Namespace:              b.namespace(),
		ContainerdVersion:      b.version,
		ContainerdGrpcAddress:  b.address(),
		ContainerdTtrpcAddress: b.address() + ".ttrpc",
		ContainerdBinary:       containerd,
	})
	cmd.Stdin = bytes.NewReader(params)
	return cmd, err
}

// bootstraps says whether this containerd gives its shims BootstrapParams: from 2.3 on.
func (b *bench) bootstraps() bool {
	parts := strings.SplitN(strings.TrimPrefix(b.version, "v"), ".", 3)
	if len(parts) < 2 {
		return false
	}
	major, _ := strconv.Atoi(parts[0])
	minor, _ := strconv.Atoi(parts[1])
	return major > 2 || major == 2 && minor >= 3
}

// endDaemon ends the daemon that `start` made: ours by SIGTERM, the Go shim, which does not hear that, by Shutdown.
func (b *bench) endDaemon(id string, k *kind, socket string) error {
	found, err := b.findDaemons()
	if err != nil {
		return err
	}
	daemon := found[id]
	for other, d := range found {
		if other != id {
			d.close()
		}
	}
	if daemon == nil {
		return fmt.Errorf("no daemon of %s is there", id)
	}
	defer daemon.close()
	if k == &b.urunc {
		err = daemon.signal(unix.SIGTERM)
	} else {
		err = b.shutdown(socket, id)
	}
	// Its end is what counts: a shim may be gone before it has answered.
	if daemon.wait(5 * time.Second) {
		return nil
	}
	daemon.signal(unix.SIGKILL)
	daemon.wait(5 * time.Second)
	return fmt.Errorf("the daemon %d of %s did not end by itself: %v", daemon.pid, id, err)
}

// shutdown calls Shutdown in the version of the Task service that the daemon has; their messages are the same.
func (b *bench) shutdown(socket, id string) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	ctx, cancel := context.WithTimeout(b.ctx, 3*time.Second)
	defer cancel()
	request := &taskv2.ShutdownRequest{ID: id, Now: true}
	for _, service := range []string{"containerd.task.v2.Task", "containerd.task.v3.Task"} {
		if err = client.Call(ctx, service, "Shutdown", request, &emptypb.Empty{}); err == nil {
			return nil
		}
	}
	return err
}
