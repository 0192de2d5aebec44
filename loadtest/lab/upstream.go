package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"hostlocal/loadtest"
	"hostlocal/loadtest/child"
)

// An upstream is the fake registry in a process of its own. Within this one it would
// stand in line behind a thousand clients that hash, for seconds, and contenders
// would be measured by how they bear that; and its descriptors are its own.
type upstream struct {
	opened
	process *child.Process
	client  *rpc.Client
}

// startUpstream starts the process and has it serve the scenario's images. Close
// ends it.
func (e Experiment) startUpstream(ctx context.Context, dir, listen string) (*upstream, error) {
	home := filepath.Join(dir, "upstream")
	if err := os.MkdirAll(filepath.Join(home, "tmp"), 0o755); err != nil {
		return nil, err
	}
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	p, err := child.Start(child.Spec{
		Name: "the fake upstream", Binary: binary, Arg0: "registryd", Args: []string{"loadtest", UpstreamCommand}, Dir: home, Conn: theirs,
	})
	theirs.Close()
	if err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	u := &upstream{process: p, client: jsonrpc.NewClient(ours)}
	if err := u.call(ctx, "Open", opening{e.Scenario, listen}, &u.opened); err != nil {
		return nil, errors.Join(err, u.close())
	}
	return u, nil
}

// UpstreamCommand is the word after which the executable calls ServeUpstream.
const UpstreamCommand = "serve-upstream"

// socketPair returns two ends of a connection, the second for another process.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("a socket to the fake upstream: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	defer ours.Close() // FileConn has a descriptor of its own
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return conn, theirs, nil
}

// call asks the process for something and waits for the answer, for ctx, or for the
// process's end.
func (u *upstream) call(ctx context.Context, method string, args, reply any) error {
	select {
	case call := <-u.client.Go("Upstream."+method, args, reply, make(chan *rpc.Call, 1)).Done:
		var said rpc.ServerError
		if call.Error != nil && !errors.As(call.Error, &said) {
			<-u.process.Ended() // the connection ends with it
			return fmt.Errorf("the fake upstream %s", u.process.Obituary())
		}
		return call.Error
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close ends the process.
func (u *upstream) close() error {
	err := u.client.Close() // upon which it ends by itself
	u.process.Stop()
	return err
}

// short is a question that does not wait for anybody.
func (u *upstream) short(method string, args, reply any) error {
	ctx, cancel := context.WithTimeout(context.Background(), shortLimit)
	defer cancel()
	return u.call(ctx, method, args, reply)
}

// shortLimit is far above what any answer takes on a machine that does much else.
const shortLimit = 30 * time.Second

// shape brings the line back to good times and forgets all that was counted.
func (u *upstream) shape(l loadtest.Line) error { return u.short("Shape", l, &nothing{}) }

// play lets faults happen from now on, until stop.
func (u *upstream) play(faults []loadtest.Fault) (stop func() error, err error) {
	if err := u.short("Play", faults, &nothing{}); err != nil {
		return nil, err
	}
	return func() error { return u.short("Stop", nothing{}, &nothing{}) }, nil
}

// settled waits until nothing is being answered, but not longer than limit, and
// returns what was asked and sent.
func (u *upstream) settled(limit time.Duration) (t loadtest.Traffic, err error) {
	err = u.short("Settled", limit, &t)
	return t, err
}
