// SPDX-License-Identifier: Apache-2.0

// Package store keeps the images of one job in a directory on a file system
// that every host of the job sees.
//
//	DIR/JOB/lock             flock(2): one incarnation of the job at a time
//	DIR/JOB/token.N          the number of the newest incarnation, an empty file
//	DIR/JOB/gen-NNNNNN/      a published image, complete and durable
//	DIR/JOB/.pending-N.T/    an image being written by incarnation T
//	DIR/JOB/.trash-…/        something being removed
//	DIR/JOB/state.json       who runs the job (Holder)
//	DIR/JOB/progress.json    what the last resumes achieved (Progress)
//	DIR/JOB/done.json        the job has ended (DoneRecord)
//	DIR/JOB/saved/           what a rollback of files cut off
//
// An image becomes a generation by one rename(2), after everything in it is on
// storage, and is removed by first renaming it away: whatever is called
// gen-NNNNNN is whole, at any instant and after any crash.
//
// Two incarnations of a job never write to the same store. The lock tells them
// apart where the file system has locks between hosts. Where it fails, tokens
// do: Take creates the next token file exclusively and then moves the pending
// images of older incarnations away. An older writer that reads the token
// afterwards stops by itself; one that has read it before finds its pending
// image gone and cannot publish. Either way it gets ErrStale.
//
// The store trusts the directory that DIR lies in, as everything does that is
// found by a path.
package store
