/* KVASS_API marks what a shared library of kvass shows; everything else is hidden when it is compiled. KVASS_HIDDEN is
 * for the insides that a shown class declares (struct KVASS_HIDDEN State;), which would be shown with it. */
#ifndef KVASS_EXPORT_H
#define KVASS_EXPORT_H

#if defined(__GNUC__)
#define KVASS_API __attribute__((visibility("default")))
#define KVASS_HIDDEN __attribute__((visibility("hidden")))
#else
#define KVASS_API
#define KVASS_HIDDEN
#endif

#endif
