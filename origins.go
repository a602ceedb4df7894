package notifyql

import (
	"fmt"
	"path"
	"strings"
)

// checkOrigins finds those that no page has: they would refuse whom they are meant for.
func checkOrigins(list []string) error {
	for _, o := range list {
		host := o
		if scheme, rest, found := strings.Cut(o, "://"); found && scheme != "" {
			host = rest
		}
		if _, err := path.Match(o, ""); err != nil || host == "" || strings.ContainsAny(host, "/@#\\ \t") {
			return fmt.Errorf("the origin %q is none that a page has; want a host such as app.example.com, *.example.com or localhost:3000, or https://app.example.com, with nothing behind it", o)
		}
	}
	return nil
}
