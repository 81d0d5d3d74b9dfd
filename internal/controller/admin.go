package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

var _ meta.Admin = (*Controller)(nil)

// do runs f on the term's goroutine. Whatever f computed may be read only if do returns
// nil: after an error it may still be running.
func (c *Controller) do(ctx context.Context, f func(ctx context.Context, t *term) error) error {
	t := c.term.Load()
	if t == nil {
		return kerr.NotController
	}
	job := &call{
		run:  func(ctx context.Context) error { return f(ctx, t) },
		done: make(chan error, 1),
	}
	select {
	case t.inbox <- job:
	case <-t.done:
		return kerr.NotController
	case <-ctx.Done():
		return fmt.Errorf("controller is busy: %w: %w", kerr.RequestTimedOut, ctx.Err())
	}
	var err error
	select {
	case err = <-job.done:
	case <-t.done:
		select {
		case err = <-job.done:
		default:
			err = errLost
		}
	case <-ctx.Done():
		return fmt.Errorf("controller has not answered: %w: %w", kerr.RequestTimedOut, ctx.Err())
	}
	var known *kerr.Error
	switch {
	case err == nil, errors.As(err, &known):
		return err
	}
	// NOT_CONTROLLER would say that nothing happened; here part of it may have.
	return fmt.Errorf("controller: %w: %w", kerr.RequestTimedOut, err)
}

// CreateTopics implements meta.Admin.
func (c *Controller) CreateTopics(ctx context.Context, topics []meta.NewTopic, validateOnly bool) ([]meta.NewTopicResult, int64, error) {
	var results []meta.NewTopicResult
	var rev int64
	err := c.do(ctx, func(ctx context.Context, t *term) (err error) {
		var changes []Change
		results, changes = t.plan.CreateTopics(topics, t.NewTopicID)
		if !validateOnly {
			rev, err = t.commit(ctx, changes)
		}
		// Of two who create a topic at once the second may not have heard of it either.
		if rev == 0 && err == nil && slices.ContainsFunc(results, func(r meta.NewTopicResult) bool { return kerr.Of(r.Err) == kerr.TopicAlreadyExists }) {
			rev = t.st.Revision()
		}
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("create topics: %w", err)
	}
	return results, rev, nil
}

// simple runs a plan that yields an error per item.
func (c *Controller) simple(ctx context.Context, what string, validateOnly bool, plan func(t *term) ([]error, []Change)) ([]error, int64, error) {
	var errs []error
	var rev int64
	err := c.do(ctx, func(ctx context.Context, t *term) (err error) {
		var changes []Change
		errs, changes = plan(t)
		if validateOnly {
			return nil
		}
		if rev, err = t.commit(ctx, changes); err != nil {
			return err
		}
		// What follows from the change belongs to it: partitions carry effective configs.
		if t.dirty {
			before := t.st.Revision()
			if err = t.reconcile(ctx); rev != 0 && t.st.Revision() > before {
				rev = t.st.Revision()
			}
		}
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", what, err)
	}
	return errs, rev, nil
}

// DeleteTopics implements meta.Admin.
func (c *Controller) DeleteTopics(ctx context.Context, ids []model.TopicID) ([]error, int64, error) {
	var errs []error
	var rev int64
	err := c.do(ctx, func(ctx context.Context, t *term) (err error) {
		var changes []Change
		errs, changes = t.plan.DeleteTopics(ids, t.Clock.Wall().UnixMilli())
		rev, err = t.commit(ctx, changes)
		t.dirty = true // the keys of partitions go after the answer
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("delete topics: %w", err)
	}
	return errs, rev, nil
}

// CreatePartitions implements meta.Admin.
func (c *Controller) CreatePartitions(ctx context.Context, topics []meta.MorePartitions, validateOnly bool) ([]error, int64, error) {
	return c.simple(ctx, "create partitions", validateOnly, func(t *term) ([]error, []Change) {
		return t.plan.CreatePartitions(topics)
	})
}

// AlterConfigs implements meta.Admin.
func (c *Controller) AlterConfigs(ctx context.Context, changes []meta.ConfigChange, validateOnly bool) ([]error, int64, error) {
	return c.simple(ctx, "alter configs", validateOnly, func(t *term) ([]error, []Change) {
		return t.plan.AlterConfigs(changes)
	})
}

// UpdateFeatures implements meta.Admin.
func (c *Controller) UpdateFeatures(ctx context.Context, updates []meta.FeatureUpdate, validateOnly bool) ([]error, int64, error) {
	return c.simple(ctx, "update features", validateOnly, func(t *term) ([]error, []Change) {
		return t.plan.UpdateFeatures(updates)
	})
}
