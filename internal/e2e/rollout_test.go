package e2e

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
)

// proxy gives a part of the connections to a second server.
type proxy struct {
	backends [2]string // the one that runs, the new one
	front    *httptest.Server

	mu    sync.Mutex
	tenth int // of ten connections, those for the new one
	n     int
	given [2]int
	conns map[net.Conn]bool
}

func newProxy(t *testing.T, current, next string) *proxy {
	p := &proxy{backends: [2]string{current, next}, conns: map[net.Conn]bool{}}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			p.mu.Lock()
			defer p.mu.Unlock()
			to := 0
			if p.n%10 < p.tenth {
				to = 1
			}
			p.n++
			p.given[to]++
			r.SetURL(&url.URL{Scheme: "http", Host: p.backends[to]})
			r.Out.Host = r.In.Host
		},
		ModifyResponse: func(r *http.Response) error {
			via := "current"
			if r.Request.URL.Host == p.backends[1] {
				via = "next"
			}
			r.Header.Set("Via", via)
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	p.front = httptest.NewUnstartedServer(forward)
	p.front.Config.ConnState = func(c net.Conn, s http.ConnState) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch s {
		case http.StateNew:
			p.conns[c] = true
		case http.StateClosed:
			delete(p.conns, c)
		}
	}
	p.front.Start()
	t.Cleanup(func() {
		p.cut()
		p.front.Close()
	})
	return p
}

func (p *proxy) addr() string { return p.front.Listener.Addr().String() }

// weigh gives so many tenths of the connections to the new server from now on, and has all clients come back.
func (p *proxy) weigh(tenth int) {
	p.mu.Lock()
	p.tenth, p.n, p.given = tenth, 0, [2]int{}
	p.mu.Unlock()
	p.cut()
}

// cut closes what is open, hijacked connections too.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close() //nolint:errcheck // to be rid of it
	}
	clear(p.conns)
}

// Two versions side by side, of which the new one gets more and more clients, and none in the end: whichever they come back to, they go on
// behind the cursor of the other one.
func TestRollout(t *testing.T) {
	t.Parallel()
	db := dumpable(t)
	db.Exec(t, countersTable)
	next := freeAddr(t)
	h := newHost(t, db.URL, "127.0.0.1:8001", next)
	h.sh("ln -s notifyql-0.1.0 notifyql")
	h.step("In each shell.")
	h.step("Start.")
	h.step("The new version beside the one that runs.")
	h.runs("0.1.0")
	p := newProxy(t, h.addr, next)
	const clients = 10
	var followers []*resumer
	for range clients {
		followers = append(followers, follow(t, p.addr()))
	}
	stop := counting(t, db)
	for _, tenth := range []int{1, 5, 10, 2, 0} {
		var before [clients]int
		for i, f := range followers {
			before[i] = f.count(&f.resumed)
		}
		p.weigh(tenth)
		for i, f := range followers {
			f.await(t, "to come back", func() bool { return f.resumed > before[i] })
		}
		p.mu.Lock()
		t.Logf("%d %% to the new version: connections %v", 10*tenth, p.given)
		if p.given[1] < tenth || tenth == 0 && p.given[1] > 0 || tenth == 10 && p.given[0] > 0 {
			t.Errorf("%d of ten were for the new one, and %v were given", tenth, p.given)
		}
		p.mu.Unlock()
	}
	h.step("Take it back.")
	want := stop()
	crossed := map[string]int{}
	for _, f := range followers {
		f.total(t, want)
		if f.count(&f.expired) != 0 {
			t.Error("a cursor was refused")
		}
		f.mu.Lock()
		for way, n := range f.crossed {
			crossed[way] += n
		}
		f.mu.Unlock()
	}
	t.Logf("%d updates arrived, each once and in order; with the cursor of the other version %v", want, crossed)
	if crossed["current to next"] == 0 || crossed["next to current"] == 0 {
		t.Errorf("clients went %v", crossed)
	}
}
