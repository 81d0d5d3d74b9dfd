package server

import (
	"fmt"
	"unicode/utf8"

	"github.com/kalda-io/kalda/internal/wire"
)

// parseHeader is wire.ParseHeader plus what this side insists on: the client id goes
// into logs and metrics, so it must be text.
func parseHeader(frame []byte) (wire.Header, []byte, error) {
	hd, body, err := wire.ParseHeader(frame)
	if err == nil && !utf8.Valid(hd.ClientID) {
		err = fmt.Errorf("the client id %q is not UTF-8", hd.ClientID)
	}
	return hd, body, err
}
