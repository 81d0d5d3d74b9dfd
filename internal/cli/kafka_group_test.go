package cli

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kalda-io/kalda/kerr"
)

// A coordinator that is not there yet is asked again, until there is an answer or no time.
func TestCoordinatedAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		n, err := coordinated(t.Context(), func() (int, error) {
			if calls++; calls < 4 {
				return 0, failed(kerr.CoordinatorNotAvailable, "group g")
			}
			return 7, nil
		})
		if n != 7 || err != nil || calls != 4 {
			t.Errorf("%d, %v after %d calls", n, err, calls)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := coordinated(ctx, func() (int, error) { return 0, kerr.CoordinatorLoadInProgress }); !errors.Is(err, kerr.CoordinatorLoadInProgress) {
			t.Errorf("out of time: %v", err)
		}
		calls = 0
		if _, err := coordinated(t.Context(), func() (int, error) { calls++; return 0, kerr.GroupIDNotFound }); !errors.Is(err, kerr.GroupIDNotFound) || calls != 1 {
			t.Errorf("another error: %v after %d calls", err, calls)
		}
	})
}
