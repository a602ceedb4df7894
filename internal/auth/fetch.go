package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// ErrUnavailable says that it could not be found out who a client is, so that nobody is let in: an operator has to look.
var ErrUnavailable = errors.New("unavailable")

func unavailable(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnavailable, fmt.Sprintf(format, args...))
}

// newClient returns a client for one address that an operator configured. It follows no redirect: what a request carries
// is for that address alone.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			MaxIdleConnsPerHost: 8,
			IdleConnTimeout:     30 * time.Second,
			ForceAttemptHTTP2:   true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// checkURL refuses what is no address to ask. The address may hold a secret and is in no error.
func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("the address is no http or https URL")
	}
	return nil
}

// do sends a request and reads at most limit bytes of the answer's body. Errors name neither the address nor what was
// sent; a longer body is one.
func do(c *http.Client, r *http.Request, limit int64) (status int, body []byte, err error) {
	resp, err := c.Do(r)
	if err != nil {
		return 0, nil, errors.New(reason(r.Context(), err))
	}
	defer resp.Body.Close() //nolint:errcheck // it was read, or is given up
	body, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return 0, nil, errors.New("the answer broke off: " + reason(r.Context(), err))
	case int64(len(body)) > limit:
		return 0, nil, fmt.Errorf("the answer has more than %d bytes", limit)
	}
	return resp.StatusCode, body, nil
}

// reason is what went wrong without the address, of which net/url leaves all but the password in its errors.
func reason(ctx context.Context, err error) string {
	if cause := context.Cause(ctx); cause != nil {
		return cause.Error()
	}
	var at *url.Error
	if errors.As(err, &at) {
		err = at.Err
	}
	return err.Error()
}
