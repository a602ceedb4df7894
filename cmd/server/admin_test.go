package main

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// serving runs the server with these settings until the test ends, and gives its public and its operators' address.
func serving(t *testing.T, env map[string]string) (public, admin string) {
	t.Helper()
	env["NOTIFYQL_BUS"], env["NOTIFYQL_AUTH"], env["NOTIFYQL_ADDR"] = "memory", "trust", "127.0.0.1:0"
	p, _, _ := world(env)
	var log lockedLog
	p.stderr = &log
	ctx, stop := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() { code <- p.main(ctx, []string{"serve"}) }()
	t.Cleanup(func() {
		stop()
		if c := <-code; c != 0 {
			t.Errorf("exit %d: %s", c, log.String())
		}
	})
	address := func(what string) string {
		found := regexp.MustCompile(`msg="?` + what + `"? address=(\S+)`)
		for {
			match, more := log.find(found)
			if match != nil {
				return match[1]
			}
			select {
			case c := <-code:
				code <- c
				t.Fatalf("exit %d: %s", c, log.String())
			case <-more:
			}
		}
	}
	if env["NOTIFYQL_ADMIN_ADDR"] != "" {
		admin = address("serving operators")
	}
	return address("serving"), admin
}

func get(t *testing.T, url string, change func(*http.Request)) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(b)
}

// What is for operators is on their address, if they have one, and not on the public one.
func TestOperatorsHaveAnAddressOfTheirOwn(t *testing.T) {
	t.Parallel()
	for _, own := range []bool{false, true} {
		env := map[string]string{}
		if own {
			env["NOTIFYQL_ADMIN_ADDR"] = "127.0.0.1:0"
		}
		public, admin := serving(t, env)
		for path, everywhere := range map[string]bool{"/health": true, "/livez": true, "/metrics": false, "/errors": false, "/admin/connections": false} {
			status, body := get(t, "http://"+public+path, nil)
			if want := everywhere || !own && path != "/admin/connections"; (status == http.StatusNotFound) == want {
				t.Errorf("own %v: %s on the public address: %d %s", own, path, status, body)
			}
			if !own {
				continue
			}
			if status, body := get(t, "http://"+admin+path, nil); status != http.StatusOK && path != "/health" {
				t.Errorf("%s on the operators' address: %d %s", path, status, body)
			}
			if status, body := get(t, "http://"+admin+path, func(r *http.Request) { r.Host = "localhost:80" }); status == http.StatusForbidden {
				t.Errorf("%s of localhost: %d %s", path, status, body)
			}
			// A page whose name leads here.
			if status, body := get(t, "http://"+admin+path, func(r *http.Request) { r.Host = "evil.example" }); status != http.StatusForbidden {
				t.Errorf("%s of another name: %d %s", path, status, body)
			}
		}
		if own {
			if status, _ := get(t, "http://"+admin+"/graphql", nil); status != http.StatusNotFound {
				t.Errorf("GraphQL on the operators' address: %d", status)
			}
		}
	}
}

// With a token, whoever has it gets in, by whatever name, and nobody else.
func TestTheOperatorsToken(t *testing.T) {
	t.Parallel()
	const token = "correct horse battery"
	_, admin := serving(t, map[string]string{"NOTIFYQL_ADMIN_ADDR": "0.0.0.0:0", "NOTIFYQL_ADMIN_TOKEN": token})
	_, port, err := net.SplitHostPort(admin)
	if err != nil {
		t.Fatal(err)
	}
	for header, want := range map[string]int{
		"Bearer " + token: 200, "bearer " + token: 200, "": 401, "Bearer": 401, "Bearer ": 401, token: 401, "Basic " + token: 401,
		"Bearer " + token + "x": 401, "Bearer " + token[1:]: 401, "Bearer " + strings.ToUpper(token): 401,
	} {
		for _, path := range []string{"/admin/connections", "/metrics", "/errors", "/livez"} {
			status, body := get(t, "http://127.0.0.1:"+port+path, func(r *http.Request) {
				r.Host = "operators.example"
				if header != "" {
					r.Header.Set("Authorization", header)
				}
			})
			if status != want || strings.Contains(body, token) {
				t.Errorf("%q, %s: %d %s", header, path, status, body)
			}
		}
	}
}

// An address that others reach is not served without a token, and a token that protects nothing, or can be guessed, is a mistake.
func TestAnOpenAdminAddressIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ addr, token, want string }{
		"everybody's":    {":0", "", "set NOTIFYQL_ADMIN_TOKEN"},
		"all of IPv4":    {"0.0.0.0:0", "", "set NOTIFYQL_ADMIN_TOKEN"},
		"no address":     {"", "hunter2hunter2hunter2", "set NOTIFYQL_ADMIN_ADDR"},
		"a short token":  {"127.0.0.1:0", "hunter2", "fewer than 16 bytes"},
		"nonsense":       {"nowhere", "", "NOTIFYQL_ADMIN_ADDR"},
		"nobody's token": {"0.0.0.0:0", " ", "set NOTIFYQL_ADMIN_TOKEN"},
	} {
		p, _, errs := world(map[string]string{
			"NOTIFYQL_ADMIN_ADDR": c.addr, "NOTIFYQL_ADMIN_TOKEN": c.token, "NOTIFYQL_BUS": "memory", "NOTIFYQL_AUTH": "trust", "NOTIFYQL_ADDR": "127.0.0.1:0",
		})
		if code := p.main(t.Context(), []string{"serve"}); code != 1 || !strings.Contains(errs.String(), c.want) || strings.Contains(errs.String(), "hunter2") {
			t.Errorf("%s: exit %d, %s", name, code, errs)
		}
	}
}

// Where others reach the operators' address it is encrypted as the public one is; on this machine it need not be.
func TestTheOperatorsAddressIsEncryptedBeyondThisMachine(t *testing.T) {
	t.Parallel()
	const token = "correct horse battery"
	cert, key := newPair(t, 1)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	write(t, certFile, cert)
	write(t, keyFile, key)
	for addr, encrypted := range map[string]bool{"0.0.0.0:0": true, "127.0.0.1:0": false} {
		public, admin := serving(t, map[string]string{
			"NOTIFYQL_TLS_CERT": certFile, "NOTIFYQL_TLS_KEY": keyFile, "NOTIFYQL_ADMIN_ADDR": addr, "NOTIFYQL_ADMIN_TOKEN": token,
		})
		_, port, err := net.SplitHostPort(admin)
		if err != nil {
			t.Fatal(err)
		}
		for at, want := range map[string]bool{public: true, "127.0.0.1:" + port: encrypted} {
			c, err := tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true})
			if (err == nil) != want {
				t.Errorf("with operators on %s, TLS with %s: %v", addr, at, err)
			}
			if err == nil {
				c.Close() //nolint:errcheck // a test
			}
		}
	}
}
