package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

// Local is the meta.Admin of a process in which all controllers of the cluster run: each
// call goes to the one that is elected. While none is, calls wait until their context ends.
type Local []*Controller

var _ meta.Admin = Local(nil)

// electionPoll is how often a waiting call looks for an elected controller. Elections
// take longer, and calls that wait for one are rare.
const electionPoll = 10 * time.Millisecond

// via runs f with the elected controller, again if that one turns out not to be.
func (l Local) via(ctx context.Context, f func(*Controller) error) error {
	for {
		for _, c := range l {
			if !c.Elected() {
				continue
			}
			if err := f(c); !errors.Is(err, kerr.NotController) {
				return err
			}
		}
		wait(ctx, electionPoll)
		if ctx.Err() != nil {
			return fmt.Errorf("no controller is elected: %w: %w", kerr.RequestTimedOut, ctx.Err())
		}
	}
}

// CreateTopics implements meta.Admin.
func (l Local) CreateTopics(ctx context.Context, topics []meta.NewTopic, validateOnly bool) (res []meta.NewTopicResult, rev int64, err error) {
	err = l.via(ctx, func(c *Controller) (err error) {
		res, rev, err = c.CreateTopics(ctx, topics, validateOnly)
		return err
	})
	return res, rev, err
}

// DeleteTopics implements meta.Admin.
func (l Local) DeleteTopics(ctx context.Context, ids []model.TopicID) (errs []error, rev int64, err error) {
	err = l.via(ctx, func(c *Controller) (err error) {
		errs, rev, err = c.DeleteTopics(ctx, ids)
		return err
	})
	return errs, rev, err
}

// CreatePartitions implements meta.Admin.
func (l Local) CreatePartitions(ctx context.Context, topics []meta.MorePartitions, validateOnly bool) (errs []error, rev int64, err error) {
	err = l.via(ctx, func(c *Controller) (err error) {
		errs, rev, err = c.CreatePartitions(ctx, topics, validateOnly)
		return err
	})
	return errs, rev, err
}

// AlterConfigs implements meta.Admin.
func (l Local) AlterConfigs(ctx context.Context, changes []meta.ConfigChange, validateOnly bool) (errs []error, rev int64, err error) {
	err = l.via(ctx, func(c *Controller) (err error) {
		errs, rev, err = c.AlterConfigs(ctx, changes, validateOnly)
		return err
	})
	return errs, rev, err
}

// UpdateFeatures implements meta.Admin.
func (l Local) UpdateFeatures(ctx context.Context, updates []meta.FeatureUpdate, validateOnly bool) (errs []error, rev int64, err error) {
	err = l.via(ctx, func(c *Controller) (err error) {
		errs, rev, err = c.UpdateFeatures(ctx, updates, validateOnly)
		return err
	})
	return errs, rev, err
}
