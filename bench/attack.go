package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const attackTables = `
	create table ours (id bigint primary key generated always as identity, tenant_id text not null, sent bigint not null);
	create table theirs (id bigint primary key generated always as identity, tenant_id text not null, x text not null);
	insert into theirs (tenant_id, x) select 'evil', repeat('x', 200) from generate_series(1, 20000);
	select notifyql.watch('ours'), notifyql.watch('theirs')`

// hostile is a client that means harm: it does its thing over and over, or holds it, until ctx ends, and counts what it did.
type hostile func(ctx context.Context, addr string, did *atomic.Int64) error

// attacks are the things that a client can do to a server.
var attacks = []struct {
	name string
	do   hostile
}{
	{"nothing", nil},
	{"an upgrade a byte at a time", func(ctx context.Context, addr string, did *atomic.Int64) error {
		return attack(ctx, addr, func(c *attacker) error {
			for _, b := range []byte(upgrade(addr)) {
				if err := errors.Join(c.send(string(b)), pause(ctx, 200*time.Millisecond)); err != nil {
					return err
				}
				did.Add(1)
			}
			return nil
		})
	}},
	{"no connection_init", func(ctx context.Context, addr string, did *atomic.Int64) error {
		return attack(ctx, addr, func(c *attacker) error {
			if err := c.send(upgrade(addr)); err != nil {
				return err
			}
			did.Add(1)
			return c.hold(ctx)
		})
	}},
	{"subscribes and never reads", func(ctx context.Context, addr string, did *atomic.Int64) error {
		return attack(ctx, addr, func(c *attacker) error {
			if err := c.begin(`subscription{theirsChanged(initial:true){new{id x}}}`); err != nil {
				return err
			}
			did.Add(1)
			return c.hold(ctx)
		})
	}},
	{"pings at full speed", repeat(`{"type":"ping"}`)},
	{"subscribes at full speed", repeat(`{"id":"1","type":"subscribe","payload":{"query":"subscription{theirsChanged{kind}}"}}`, `{"id":"1","type":"complete"}`)},
	{"documents that are bombs", repeat(`{"id":"1","type":"subscribe","payload":{"query":"{` + strings.Repeat("a{", 2000) + `"}}`)},
	{"filters that are bombs", repeat(`{"id":"1","type":"subscribe","payload":{"query":"subscription{theirsChanged(where:{or:[`+strings.Repeat(`{x:{like:\"%a%a%a%\"}}`, 190)+`]}){kind}}"}}`, `{"id":"1","type":"complete"}`)},
	{"forged cursors", repeat(`{"id":"1","type":"subscribe","payload":{"query":"subscription{theirsChanged(after:\"` + strings.Repeat("A", 400) + `\"){kind}}"}}`)},
	{"frames of one byte", func(ctx context.Context, addr string, did *atomic.Int64) error {
		return attack(ctx, addr, func(c *attacker) error {
			if err := c.begin(""); err != nil {
				return err
			}
			for first := "\x01"; ; first = "\x00" {
				if err := c.send(strings.Repeat(first+"\x81\x00\x00\x00\x00x", 64)); err != nil {
					return err
				}
				did.Add(64)
			}
		})
	}},
	{"connects over and over", func(ctx context.Context, addr string, did *atomic.Int64) error {
		return attack(ctx, addr, func(c *attacker) error {
			did.Add(1)
			return c.begin("")
		})
	}},
	{"asks for many rows and goes", func(ctx context.Context, addr string, did *atomic.Int64) error {
		return attack(ctx, addr, func(c *attacker) error {
			did.Add(1)
			if err := c.begin(`subscription{theirsChanged(initial:true){new{id x}}}`); err != nil {
				return err
			}
			return pause(ctx, 100*time.Millisecond)
		})
	}},
}

// repeat sends messages as fast as they are taken.
func repeat(messages ...string) hostile {
	var all strings.Builder
	for _, m := range messages {
		all.WriteString(masked(m))
	}
	return func(ctx context.Context, addr string, did *atomic.Int64) error {
		return attack(ctx, addr, func(c *attacker) error {
			if err := c.begin(""); err != nil {
				return err
			}
			for {
				if err := c.send(all.String()); err != nil {
					return err
				}
				did.Add(int64(len(messages)))
			}
		})
	}
}

// attacker is a connection that means harm.
type attacker struct {
	net.Conn
	addr string
}

// attack connects over and over until ctx ends: who is thrown out comes back at once.
func attack(ctx context.Context, addr string, do func(*attacker) error) error {
	for ctx.Err() == nil {
		conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", addr)
		if err != nil {
			if ctx.Err() == nil && pause(ctx, 100*time.Millisecond) == nil {
				continue
			}
			break
		}
		stop := context.AfterFunc(ctx, func() { conn.Close() }) //nolint:errcheck // it has served
		do(&attacker{conn, addr})                               //nolint:errcheck // thrown out, as it should be
		stop()
		conn.Close()                    //nolint:errcheck // it has served
		pause(ctx, 10*time.Millisecond) //nolint:errcheck // a thousand of them leave little to the others as it is
	}
	return nil
}

func upgrade(addr string) string {
	return "GET /graphql HTTP/1.1\r\nHost: " + addr + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
}

func (c *attacker) send(s string) error {
	_, err := io.WriteString(c, s)
	return err
}

// begin upgrades, says who it is and subscribes, and waits for nothing but the answer to the upgrade.
func (c *attacker) begin(query string) error {
	if err := c.send(upgrade(c.addr) + masked(`{"type":"connection_init","payload":{"tenantId":"evil","userId":"mallory"}}`)); err != nil {
		return err
	}
	if query != "" {
		text, err := json.Marshal(query)
		if err != nil {
			return err
		}
		if err := c.send(masked(`{"id":"1","type":"subscribe","payload":{"query":` + string(text) + `}}`)); err != nil {
			return err
		}
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && !strings.Contains(line, "101") {
		err = errors.New(line)
	}
	return err
}

// hold reads nothing, and notices when it is thrown out by what it sends.
func (c *attacker) hold(ctx context.Context) error {
	for {
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
		if err := c.send("\x8a\x80\x00\x00\x00\x00"); err != nil { // a pong that nobody has asked for
			return err
		}
	}
}

// masked is a message as one frame, with a mask of zeros.
func masked(message string) string {
	n := len(message)
	if n > 65535 {
		panic("a message is too long")
	}
	if n > 125 {
		return "\x81\xfe" + string([]byte{byte(n >> 8), byte(n)}) + "\x00\x00\x00\x00" + message
	}
	return "\x81" + string([]byte{0x80 | byte(n)}) + "\x00\x00\x00\x00" + message
}

// underAttack measures what well-behaved clients notice of a thousand who are not, of each kind.
func underAttack(ctx context.Context, seconds int) error {
	const bad, good = 1000, 20
	url, conn, closing, err := database(ctx, attackTables)
	if err != nil {
		return err
	}
	defer closing()
	srv, err := startBinary(ctx, url)
	if err != nil {
		return err
	}
	defer srv.stop()
	fmt.Printf("100 writes/s to %d clients that behave; beside them %d that do not, with defaults; in brackets, of nothing\n", good, bad)
	var calm time.Duration
	for _, a := range attacks {
		// New ones each time: they answer no pings, and would be taken for dead after half a minute.
		ours := &arrivals{}
		behaving, leave := context.WithCancel(ctx)
		for i := range good {
			if err := subscribe(behaving, srv.addr, ours.of(i)); err != nil {
				leave()
				return err
			}
		}
		end := func() string { return "0" }
		var err error
		if a.do != nil {
			end, err = startHostile(ctx, a.name, srv.addr, bad)
		}
		err = errors.Join(err, pause(ctx, time.Second))
		ours.forget()
		began, busy := time.Now(), srv.cpu()
		if err == nil {
			err = writeAt(ctx, conn, "ours", 100, time.Duration(seconds)*time.Second)
		}
		rss, cores := srv.memory(), (srv.cpu()-busy).Seconds()/time.Since(began).Seconds()
		err = errors.Join(err, pause(ctx, 500*time.Millisecond))
		p50, p99, n := ours.median(good)
		did := end()
		leave()
		if err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
		if a.do == nil {
			calm = p99
		}
		fmt.Printf("  %-28s p50 %s  p99 %s (%.1f)  %d arrivals  server %d MB, %.2f cores  tried %s times\n", a.name, ms(p50), ms(p99), float64(p99)/float64(calm), n, rss>>20, cores, did)
		if err := pause(ctx, 2*time.Second); err != nil {
			return err
		}
	}
	return nil
}

// startHostile runs so many clients that mean harm, in a process that gets what others leave of the machine: elsewhere they have machines of
// their own.
func startHostile(ctx context.Context, name, addr string, clients int) (end func() (did string), err error) {
	cmd := exec.CommandContext(ctx, "nice", "-n", "19", os.Args[0], "-hostile", name, "-reader", addr, "-sockets", strconv.Itoa(clients))
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() string {
		in.Close() //nolint:errcheck // it is told to end
		cmd.Wait() //nolint:errcheck // what it says counts
		return out.String()
	}, nil
}

// beHostile does one of the attacks with so many clients until standard input ends, and prints how often.
func beHostile(ctx context.Context, name, addr string, clients int) error {
	ctx, stop := context.WithCancel(ctx)
	go func() {
		io.Copy(io.Discard, os.Stdin) //nolint:errcheck // its end counts
		stop()
	}()
	var did atomic.Int64
	var all sync.WaitGroup
	for _, a := range attacks {
		if a.name == name && a.do != nil {
			for range clients {
				all.Go(func() { a.do(ctx, addr, &did) }) //nolint:errcheck // thrown out, as it should be
			}
		}
	}
	all.Wait()
	fmt.Print(did.Load())
	return nil
}

// program is a server in a process of its own.
type program struct {
	cmd  *exec.Cmd
	addr string
	dir  string
}

func startBinary(ctx context.Context, url string) (p *program, err error) {
	dir, err := os.MkdirTemp("", "notifyql-bench-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir) //nolint:errcheck // temporary
		}
	}()
	bin := filepath.Join(dir, "notifyql")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", bin, "./cmd/server").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the server: %w: %s", err, out)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := ln.Addr().String()
	ln.Close() //nolint:errcheck // its port is free
	p = &program{exec.Command(bin, "serve"), addr, dir}
	p.cmd.Env = append(os.Environ(), "DATABASE_URL="+url, "NOTIFYQL_ADDR="+addr, "NOTIFYQL_AUTH=trust", "NOTIFYQL_LOG_LEVEL=error")
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	for {
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			p.stop()
			return nil, err
		}
		r, err := http.Get("http://" + addr + "/health") //nolint:noctx // on this machine
		if err != nil {
			continue
		}
		r.Body.Close() //nolint:errcheck // nothing is read
		if r.StatusCode == http.StatusOK {
			return p, nil
		}
	}
}

func (p *program) stop() {
	p.cmd.Process.Kill() //nolint:errcheck // it may have ended
	p.cmd.Wait()         //nolint:errcheck // killed
	os.RemoveAll(p.dir)  //nolint:errcheck // temporary
}

// cpu is the processor's time that the process has taken so far.
func (p *program) cpu() time.Duration {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid)) // zero where there is none
	_, after, _ := strings.Cut(string(stat), ") ")
	var ticks int64 // of a hundredth of a second
	for i, f := range strings.Fields(after) {
		if i == 11 || i == 12 { // utime, stime: proc(5)
			n, _ := strconv.ParseInt(f, 10, 64)
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// memory is what the process holds, in bytes.
func (p *program) memory() int64 {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid)) // zero where there is none
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	kb, _, _ := strings.Cut(strings.TrimSpace(after), " ")
	n, _ := strconv.ParseInt(kb, 10, 64)
	return n << 10
}
