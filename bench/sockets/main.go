// Command sockets measures the WebSocket layer alone, on both ends of the same machine:
//
//	go run ./bench/sockets idle      memory of an idle connection with one subscription, beside coder/websocket's own minimum
//	go run ./bench/sockets deliver   messages a second and CPU for each million, beside bare loops on the same connections
//
// The kinds of idle socket: bare is coder/websocket in its handler, with the buffers of net/http; small has buffers of 512
// bytes and reads after its handler has returned; ours is this program's in the handler, and detached after it, as the
// server has it. The first two have no subscription, the others one.
//
// The serving side is a process of its own, so that the figures are its own.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
)

func main() {
	n := flag.Int("n", 0, "sockets: 9500 idle, 1000 to deliver to")
	seconds := flag.Int("seconds", 3, "length of each phase of deliver")
	flag.Parse()
	var err error
	switch flag.Arg(0) {
	case "serve":
		err = serveNode(flag.Arg(1))
	case "idle":
		err = idle(or(*n, 9500))
	case "deliver":
		err = deliver(or(*n, 1000), *seconds)
	default:
		err = fmt.Errorf("say what: idle or deliver")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sockets:", err)
		os.Exit(1)
	}
}

func or(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}

// child starts a serving process and gives its address; stop ends it.
func child(variant string) (addr string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command(self, "serve", variant)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	if _, err := fmt.Fscanln(out, &addr); err != nil {
		return "", nil, err
	}
	return addr, func() { in.Close(); _ = cmd.Wait() }, nil
}

func ask(addr, path string, into any) error {
	r, err := http.Get("http://" + addr + path)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	return json.NewDecoder(r.Body).Decode(into)
}

func idle(n int) error {
	fmt.Printf("%d idle sockets; bytes for each\n\n%-10s %8s %8s %8s %8s  %s\n", n, "", "heap", "stack", "sum", "RSS", "goroutines")
	for _, variant := range strings.Fields(variants) {
		if err := idleVariant(variant, n); err != nil {
			return err
		}
	}
	return nil
}

func idleVariant(variant string, n int) error {
	addr, stop, err := child(variant)
	if err != nil {
		return err
	}
	defer stop()
	var before, after memory
	if err := ask(addr, "/memory", &before); err != nil {
		return err
	}
	clients, err := dialMany(addr, n)
	if err != nil {
		return err
	}
	for !strings.Contains("bare small", variant) && after.Streams < n {
		if err := ask(addr, "/memory", &after); err != nil {
			return err
		}
	}
	if err := ask(addr, "/memory", &after); err != nil {
		return err
	}
	each := func(a, b uint64) int { return (int(a) - int(b)) / n }
	heap, stack := each(after.Heap, before.Heap), each(after.Stack, before.Stack)
	fmt.Printf("%-10s %8d %8d %8d %8d  %d", variant, heap, stack, heap+stack, each(after.RSS, before.RSS), after.Goroutines)
	if after.Streams > 0 {
		for _, c := range clients {
			go discard(c)
		}
		if err := ask(addr, "/deliver?mode=ours&per=1", new(delivered)); err != nil {
			return err
		}
	}
	for _, c := range clients {
		c.Close()
	}
	for deadline := time.Now().Add(30 * time.Second); after.Goroutines > before.Goroutines+2; {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d goroutines are left", after.Goroutines)
		}
		if err := ask(addr, "/memory", &after); err != nil {
			return err
		}
	}
	fmt.Printf(", %d after an event each and closing\n", after.Goroutines)
	return nil
}
