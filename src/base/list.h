/*
 * base/list.h - intrusive doubly linked circular list with a head.  Not locked.
 */
#ifndef QI_BASE_LIST_H
#define QI_BASE_LIST_H

#include "bits.h"

struct qi_list {
    struct qi_list *next, *prev;
};

static inline void qi_list_init(struct qi_list *h) { h->next = h->prev = h; }
static inline bool qi_list_empty(const struct qi_list *h) { return h->next == h; }

static inline void qi_list_insert_(struct qi_list *n, struct qi_list *prev, struct qi_list *next)
{
    n->prev = prev;
    n->next = next;
    prev->next = n;
    next->prev = n;
}
static inline void qi_list_add(struct qi_list *h, struct qi_list *n)
{
    qi_list_insert_(n, h, h->next);
}
static inline void qi_list_add_tail(struct qi_list *h, struct qi_list *n)
{
    qi_list_insert_(n, h->prev, h);
}
/* Take n off its list; n is then its own, empty list. */
static inline void qi_list_del(struct qi_list *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    qi_list_init(n);
}

#define qi_list_entry(ptr, type, member) QI_CONTAINER(ptr, type, member)
#define qi_list_first(h, type, member)   qi_list_entry((h)->next, type, member)
#define qi_list_for_each(pos, h, member)                                                \
    for (pos = qi_list_entry((h)->next, __typeof__(*pos), member); &pos->member != (h); \
         pos = qi_list_entry(pos->member.next, __typeof__(*pos), member))
#define qi_list_for_each_safe(pos, tmp, h, member)                       \
    for (pos = qi_list_entry((h)->next, __typeof__(*pos), member),       \
        tmp = qi_list_entry(pos->member.next, __typeof__(*pos), member); \
         &pos->member != (h);                                            \
         pos = tmp, tmp = qi_list_entry(pos->member.next, __typeof__(*pos), member))

#endif
