package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// health is for a container's health check, where there is no other program to ask with.
func (p *program) health(ctx context.Context, args []string) error {
	var s settings
	fs := p.flags("health", "")
	if err := p.register(fs, &s, "addr", "tls-cert"); err != nil {
		return err
	}
	wait := fs.Duration("wait", 0, "ask again until it is well, so long at most")
	if _, err := p.parse(fs, args, 0); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return fmt.Errorf("the address %q is not host:port; set NOTIFYQL_ADDR", s.addr)
	}
	switch host { // by number: an image with nothing but the binary knows no localhost
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	scheme, client := "http", http.DefaultClient
	if s.tlsCert != "" {
		scheme = "https"
		// The certificate has the server's public name, and nothing that is secret is said.
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
		client = &http.Client{Transport: transport}
	}
	url := scheme + "://" + net.JoinHostPort(host, port) + "/health"
	for deadline := time.Now().Add(*wait); ; {
		body, err := askHealth(ctx, client, url)
		if err == nil || time.Until(deadline) < healthPause || ctx.Err() != nil {
			if body != "" {
				fmt.Fprintln(p.stdout, body)
			}
			return err
		}
		select {
		case <-time.After(healthPause):
		case <-ctx.Done():
		}
	}
}

const healthPause = 200 * time.Millisecond

// askHealth returns what the server says, also if it is not well.
func askHealth(ctx context.Context, client *http.Client, url string) (says string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("the server does not answer: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return "", err
	}
	says = strings.TrimSpace(string(body))
	if resp.StatusCode != http.StatusOK {
		return says, fmt.Errorf("the server is not ready (%s)", resp.Status)
	}
	return says, nil
}
