// include/kvass/program_file.h.
#include "kvass/program_file.h"

#include "api/guard.h"
#include "app/export.h"

namespace kvass {

Result<ExportSummary> export_program(const ExportOptions& options) {
  return guarded({"ExportOptions", "StreamOptions"}, [&]() -> Result<ExportSummary> {
    KVASS_RETURN_IF_ERROR(check_kvp_path(options.out));
    KVASS_ASSIGN_OR_RETURN(ModelFile file, ModelFile::open(options.model));
    return export_program(std::move(file), options);
  });
}

}  // namespace kvass
