package gqlhttp

import (
	"mime"
	"strconv"
	"strings"
)

// negotiate chooses the media type of the answer by the Accept headers: the one of highest quality, of equal ones the
// first named. Without a header it is plain JSON, as older clients expect. ok is false if nothing we have is accepted.
func negotiate(accept []string) (media string, ok bool) {
	if len(accept) == 0 || len(accept) == 1 && strings.TrimSpace(accept[0]) == "" {
		return plainJSON, true
	}
	best := 0.0
	for _, one := range strings.Split(strings.Join(accept, ","), ",") {
		typ, params, err := mime.ParseMediaType(one)
		if err != nil {
			continue
		}
		switch typ {
		case "*/*", "application/*":
			typ = plainJSON
		case plainJSON, graphqlResponse:
		default:
			continue
		}
		q := 1.0
		if text, given := params["q"]; given {
			if q, err = strconv.ParseFloat(text, 64); err != nil {
				continue
			}
		}
		if cs := params["charset"]; cs != "" && !strings.EqualFold(cs, "utf-8") {
			continue
		}
		if q > best {
			best, media = q, typ
		}
	}
	return media, best > 0
}
