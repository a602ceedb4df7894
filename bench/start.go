package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/localpg"
)

// What is aimed at.
const (
	aimStart  = 300 * time.Millisecond
	aimMemory = 30 << 20
	aimBinary = 25 << 20
)

// start measures the binary as it is shipped: its size, how soon it is ready with the database up, beside a bare connection
// that LISTENs, and what memory it has when nothing is connected.
func start(ctx context.Context, seconds int) error {
	dir, err := os.MkdirTemp("", "notifyql-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "notifyql")
	build := exec.CommandContext(ctx, "go", "build", "-tags=grpcnotrace", "-trimpath", "-ldflags=-s -w", "-o", bin, "./cmd/server")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	size, err := os.Stat(bin)
	if err != nil {
		return err
	}
	fmt.Printf("binary %s, of the %s aimed at\n", mb(size.Size()), mb(aimBinary))

	db, err := localpg.Start(ctx, localpg.Options{Settings: durable})
	if err != nil {
		return err
	}
	defer db.Stop() //nolint:errcheck // the measurement counts
	url, err := own(ctx, db, "start", lagTable, watchRows)
	if err != nil {
		return err
	}
	var ready, bare []time.Duration
	var idle, peak []float64
	for end := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(end) || len(ready) < 5; {
		began := time.Now()
		if err := listen(ctx, url); err != nil {
			return err
		}
		bare = append(bare, time.Since(began))
		took, now, most, err := startOnce(ctx, bin, url)
		if err != nil {
			return err
		}
		ready, idle, peak = append(ready, took), append(idle, float64(now)), append(peak, float64(most))
	}
	p50 := quantile(ready, 0.5)
	fmt.Printf("ready after %s (p50; at most %s), of the %s aimed at; a bare connection that LISTENs %s: %.1f times that\n",
		ms(p50), ms(quantile(ready, 1)), ms(aimStart), ms(quantile(bare, 0.5)), float64(p50)/float64(quantile(bare, 0.5)))
	fmt.Printf("memory when ready and idle %s (at most %s while it started), of the %s aimed at\n", mb(int64(median(idle))), mb(int64(median(peak))), mb(aimMemory))
	return nil
}

func mb(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/(1<<20)) }

func listen(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // it has served
	_, err = conn.Exec(ctx, "listen bare")
	return err
}

// startOnce starts the binary, and gives how long it took to be ready, and its memory then, two seconds later, and at most.
func startOnce(ctx context.Context, bin, url string) (took time.Duration, now, most int64, err error) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, 0, err
	}
	addr := free.Addr().String()
	free.Close()
	cmd := exec.CommandContext(ctx, bin, "serve")
	cmd.Env = append(os.Environ(), "DATABASE_URL="+url, "NOTIFYQL_ADDR="+addr, "NOTIFYQL_AUTH=trust")
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, 0, err
	}
	defer func() {
		cmd.Process.Signal(os.Interrupt) //nolint:errcheck // it may have ended
		cmd.Wait()                       //nolint:errcheck // as it was told
	}()
	for {
		r, err := http.Get("http://" + addr + "/health")
		if err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				break
			}
		}
		if time.Since(began) > time.Minute {
			return 0, 0, 0, fmt.Errorf("the server is never ready: %w", err)
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return 0, 0, 0, err
		}
	}
	took = time.Since(began)
	if err := pause(ctx, 2*time.Second); err != nil {
		return 0, 0, 0, err
	}
	now, most, err = memory(cmd.Process.Pid)
	return took, now, most, err
}

// memory is what a process has resident, in bytes, and had at most.
func memory(pid int) (now, most int64, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		for name, to := range map[string]*int64{"VmRSS:": &now, "VmHWM:": &most} {
			if value, ok := strings.CutPrefix(lines.Text(), name); ok {
				var kb int64
				if _, err := fmt.Sscan(value, &kb); err != nil {
					return 0, 0, err
				}
				*to = kb << 10
			}
		}
	}
	return now, most, nil
}
