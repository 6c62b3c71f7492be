// Measures our shim beside containerd's own runc shim, in one run on one containerd: how long `start` takes, what an
// idle daemon holds, and how long a container takes from Create to its first byte and to the end of its Delete. The
// bare monitor, executed by hand with our shim's own arguments, is measured between them: what is left is our part.
//
// Or (--pods) pods by CRI: what each step of their life takes, with and without a network, and what an idle one holds.
//
// tests/bench/run.sh builds it, gives it a containerd and takes everything down again.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// options are what can be told; those without a default come from run.sh.
type options struct {
	scratch     string // everything of this run is in here; run/ in it is a tmpfs, as /run is
	bin         string // containerd, its shim and runc
	shim        string // ours
	kernel      string // of the tiny guest
	busybox     string
	image       string // the tiny guest's, an archive
	snapshotter string
	commit      string // what is measured, for the heading
	pause       string // the program of a pod of runc
	plugins     string // CNI's
	rounds      int
	warmup      int
	starts      int
	daemons     int
	trios       int
	json        bool
	profile     bool
	host        bool
	pods        bool
}

func (o *options) address() string { return filepath.Join(o.scratch, "c.sock") }

// name is run.sh's, too: by it the cgroups are found again.
func (o *options) name() string { return filepath.Base(o.scratch) }

// namespace is containerd's.
func (o *options) namespace() string {
	if o.pods {
		return "k8s.io"
	}
	return o.name()
}

func main() {
	var o options
	for name, value := range map[string]*string{
		"scratch": &o.scratch, "bin": &o.bin, "shim": &o.shim, "kernel": &o.kernel, "busybox": &o.busybox,
		"image": &o.image, "snapshotter": &o.snapshotter, "commit": &o.commit, "pause": &o.pause, "plugins": &o.plugins,
	} {
		flag.StringVar(value, name, "", byScript)
	}
	flag.IntVar(&o.rounds, "rounds", 30, "rounds of containers' or pods' lives; 0: none")
	flag.IntVar(&o.warmup, "warmup", 3, "rounds before them that are not counted")
	flag.IntVar(&o.starts, "starts", 20, "executions of each shim's start; 0: none; not with --pods")
	flag.IntVar(&o.daemons, "daemons", 20, "idle daemons of each shim, or pods; 0: none")
	flag.IntVar(&o.trios, "trios", 10, "rounds of pods of three ordinary containers; 0: none; only with --pods")
	flag.BoolVar(&o.json, "json", false, "print JSON")
	flag.BoolVar(&o.profile, "profile", false, "print the timeline of one container, or pod, instead")
	flag.BoolVar(&o.host, "host", false, "the pod of --profile is in the host's network")
	flag.BoolVar(&o.pods, "pods", false, byScript)
	flag.Usage = usage
	flag.Parse()
	if flag.NArg() != 0 || o.scratch == "" {
		fmt.Fprintln(os.Stderr, "bench: start it by tests/bench/run.sh [OPTION...]; --help names the options")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, &o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// byScript marks the options that only run.sh gives.
const byScript = "given by run.sh"

func usage() {
	out := flag.CommandLine.Output()
	fmt.Fprint(out, "tests/bench/run.sh [--pods] [--containerd 1.6|2.3] [--shim FILE] [OPTION...]\n")
	flag.VisitAll(func(f *flag.Flag) {
		if f.Usage != byScript {
			fmt.Fprintf(out, "  --%-10s%s (%s)\n", f.Name, f.Usage, f.DefValue)
		}
	})
}

func run(ctx context.Context, o *options) error {
	b, err := open(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	if o.pods {
		return b.runPods()
	}
	if o.profile {
		return b.timeline()
	}
	r := b.newReport()
	if err := b.measureStart(r); err != nil {
		return err
	}
	if err := b.measureCycles(r); err != nil {
		return err
	}
	if err := b.measureIdle(r); err != nil {
		return err
	}
	b.say("")
	r.derive()
	if o.json {
		return r.printJSON()
	}
	r.print()
	return nil
}

func (b *bench) runPods() (err error) {
	p, err := b.openPods()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if b.profile {
		return p.timelinePod()
	}
	r := b.newReport()
	if err := p.measurePods(r); err != nil {
		return err
	}
	if err := p.measureTrios(r); err != nil {
		return err
	}
	if err := p.measureIdlePods(r); err != nil {
		return err
	}
	b.say("")
	r.deriveTrios()
	r.derivePods()
	if b.json {
		return r.printJSON()
	}
	r.printPods()
	return nil
}
