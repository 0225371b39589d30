#include "CExtProc.h"
