/* SPDX-License-Identifier: GPL-2.0 */
/* The fixture of what is tried with each card: what takes no time */
#ifndef UNREADABLE_CARDS_H
#define UNREADABLE_CARDS_H

#include "fixture.h"

/* With each card */
FIXTURE(cards) {
	struct unread_rig rig;
};

FIXTURE_VARIANT(cards) {
	const char *card;
};

FIXTURE_VARIANT_ADD(cards, e1000e) { .card = "e1000e" };
FIXTURE_VARIANT_ADD(cards, vmxnet3) { .card = "vmxnet3" };

FIXTURE_SETUP(cards)
{
	unread_up(_metadata, &self->rig, variant->card);
}

FIXTURE_TEARDOWN(cards)
{
	unread_down(&self->rig);
}

#endif
