package actionhttp

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/galley-engine/galley/pkg/file"
	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

// maxName is the most bytes that the name of a file has.
const maxName = 200

// keep stores the body of an answer as a file of the customer, and gives the reference. Its id follows from the step, so that another
// attempt puts its file in the place of an earlier one.
func (c *Component) keep(ctx context.Context, call *component.Call, response *http.Response) (any, error) {
	contentType := contentTypeBinary
	if media, parameters, err := mime.ParseMediaType(response.Header.Get(headerContentType)); err == nil {
		if formatted := mime.FormatMediaType(media, parameters); formatted != "" {
			contentType = formatted
		}
	}
	content := &source{reader: response.Body}
	stored, err := c.files.Put(ctx, call.Execution.Customer, file.Ref{
		ID: strings.ReplaceAll(call.IdempotencyKey(), "/", "."), Name: fileName(call, response), ContentType: contentType,
	}, content)
	switch {
	case err == nil:
		return stored.Value(), nil
	case errors.Is(err, file.ErrTooLarge):
		return nil, component.Failure(problem.StateTooLarge, "the body of the answer is larger than 16 MiB")
	case content.err != nil:
		return nil, outbound.Classify(content.err)
	case ctx.Err() != nil:
		return nil, outbound.Classify(ctx.Err())
	}
	return nil, component.Retryable(problem.Unavailable, "the file cannot be stored at the moment")
}

// source is the body of an answer, which remembers what it failed with.
type source struct {
	reader io.Reader
	err    error
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// fileName is the name that the answer gives its body, or else the last part of the URL's path, or else the id of the step.
func fileName(call *component.Call, response *http.Response) string {
	_, parameters, _ := mime.ParseMediaType(response.Header.Get("Content-Disposition"))
	for _, candidate := range []string{parameters["filename"], response.Request.URL.Path} {
		// Both kinds of separators: a name that leads into another directory must not reach anybody's disk.
		name := path.Base(strings.ReplaceAll(candidate, `\`, "/"))
		name = strings.Map(func(r rune) rune {
			if !unicode.IsPrint(r) || r == utf8.RuneError {
				return '_'
			}
			return r
		}, name)
		name = call.Public(name)
		for len(name) > maxName {
			_, size := utf8.DecodeLastRuneInString(name)
			name = name[:len(name)-size]
		}
		if strings.Trim(name, "./ ") != "" {
			return name
		}
	}
	return call.Step
}
