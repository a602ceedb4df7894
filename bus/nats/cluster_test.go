package nats

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql/bus"
	"github.com/notifyql/notifyql/internal/localbroker"
)

// eventually tries until it works: a cluster elects leaders, and nothing signals that it has.
func eventually(t *testing.T, what string, try func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// leads is the name of the server that leads the stream, when all of its servers have all that there is.
func leads(ctx context.Context, s *Stream) (string, error) {
	c, err := s.dial(ctx)
	if err != nil {
		return "", err
	}
	defer c.Close()
	stream, err := c.js.Stream(ctx, "notifyql")
	if err != nil {
		return "", err
	}
	cluster := stream.CachedInfo().Cluster
	if len(cluster.Replicas) != 2 {
		return "", fmt.Errorf("there are %d replicas", len(cluster.Replicas))
	}
	for _, r := range cluster.Replicas {
		if !r.Current || r.Offline {
			return "", fmt.Errorf("%s is behind", r.Name)
		}
	}
	return cluster.Leader, nil
}

// TestCluster: a stream on three servers outlives the one that leads it. What was appended before and after is there in
// order, or who reads is told.
func TestCluster(t *testing.T) {
	t.Parallel()
	var routes []string
	for range 3 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		defer ln.Close() //nolint:errcheck // it is closed below
		routes = append(routes, "nats://"+ln.Addr().String())
		must(t, ln.Close())
	}
	var servers []*localbroker.Server
	var urls []string
	for i, route := range routes {
		s := localbroker.New(t, localbroker.NATS, "--cluster_name", "c", "--name", fmt.Sprint("n", i), "--cluster", route, "--routes", strings.Join(routes, ","))
		servers = append(servers, s)
		urls = append(urls, "nats://"+s.Addr)
	}
	s := join(t, Options{URL: strings.Join(urls, ","), Replicas: 3})
	number := byte(0)
	add := func(ctx context.Context) error {
		number++
		return s.Append(ctx, []byte{number})
	}
	eventually(t, "the first record", add)
	var leader string
	eventually(t, "the servers to be up to date", func(ctx context.Context) (err error) {
		leader, err = leads(ctx, s)
		return err
	})
	var r bus.Reader
	eventually(t, "Open", func(ctx context.Context) (err error) {
		r, err = s.Open(ctx)
		return err
	})
	defer r.Close()
	last := number
	eventually(t, "a record while all live", add)
	dies, lives := servers[leader[1]-'0'], servers[(leader[1]-'0'+1)%3]
	must(t, dies.Kill())
	eventually(t, "a record while two live", add)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for last < number {
		records, err := r.Read(ctx)
		if err != nil {
			if ctx.Err() != nil {
				t.Errorf("a reader neither read nor noticed: %v", err)
			}
			break
		}
		for _, b := range records {
			if b[0] <= last {
				t.Errorf("record %d came after %d", b[0], last)
			}
			last = b[0]
		}
	}
	var again bus.Reader
	eventually(t, "Open while two live", func(ctx context.Context) (err error) {
		again, err = s.Open(ctx)
		return err
	})
	defer again.Close()
	eventually(t, "another record", add)
	records, err := again.Read(ctx)
	if err != nil || records[len(records)-1][0] != number {
		t.Errorf("a new reader got %v, %v", records, err)
	}
	if info := look(t, lives); info.Config.Replicas != 3 {
		t.Errorf("the stream has %d replicas", info.Config.Replicas)
	}
}
